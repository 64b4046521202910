"""Machines that boot for a module's tests, and are gone after them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from tests.testlib.machines.machine import Machine, Segment, boot_all


@pytest.fixture(scope="module")
def segment() -> Iterator[Segment]:
    """The network that a module's machines share."""
    made = Segment()
    yield made
    made.close()


@pytest.fixture(scope="module")
def machine(segment: Segment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One with this checkout, shared by the tests of a module."""
    (made,) = boot_all(segment, 1, folder=tmp_path_factory.mktemp("machine"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def machines(segment: Segment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Sequence[Machine]]]:
    """Boots as many with this checkout, side by side; they go when the module's tests end."""
    with ExitStack() as stack:

        def make(count: int) -> Sequence[Machine]:
            made = boot_all(segment, count, folder=tmp_path_factory.mktemp("machines"))
            for each in made:
                stack.callback(each.close)
            return made

        yield make
