"""Cells in network namespaces of their own, for the demos and the tests."""
