"""The host that the tests of this folder cut connections on."""

from collections.abc import Callable, Iterator

import pytest

from tests.testlib.netns import Netns
from tests.testlib.policed import Bed


@pytest.fixture
def bed(netns: Callable[[str], Netns]) -> Iterator[Bed]:
    made = Bed(netns)
    yield made
    made.close()
