"""Fixtures of the end-to-end tests."""

from tests.testlib.attached import attach  # noqa: F401 -- a fixture
