"""Processes that are killed before any of their effects."""
