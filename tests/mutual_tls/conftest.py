"""Cells in strict mode."""

from collections.abc import Sequence

import pytest

from tests.cells.conftest import place

__all__ = ["cell_overrides", "place"]


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    """Every TCP connection between containers is in a tunnel."""
    return ("tls.mtls=strict",)
