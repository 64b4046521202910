"""Fixtures of the tests of many cells."""

from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.containers import ServingContainer


class Place(Protocol):
    """What the fixture `place` gives."""

    def __call__(self, cell: int | CellUnderTest, app: str, *ports: int, name: str | None = None) -> ServingContainer: ...


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """`place(2, "acme/shop/api", 8080)` is a container on cell 2 that answers on 8080; taken off after the test."""
    made: list[ServingContainer] = []
    cells: CellsUnderTest | None = request.getfixturevalue("cells") if "cells" in request.fixturenames else None

    def put(cell: int | CellUnderTest, app: str, *ports: int, name: str | None = None) -> ServingContainer:
        if isinstance(cell, int):
            assert cells is not None, "cells by number are those of the fixture `cells`"
            cell = cells[cell]
        made.append(ServingContainer(cell, app, name=name, ports=ports))
        return made[-1]

    yield put
    for each in made:
        each.end()
