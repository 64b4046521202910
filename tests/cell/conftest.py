"""Fixtures of the end-to-end tests."""

from tests.testlib.containers import attach  # noqa: F401 -- a fixture
from tests.testlib.engines.podman import podman  # noqa: F401 -- a fixture
