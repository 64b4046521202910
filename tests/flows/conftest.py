"""The host that the tests of this folder cut connections on."""

from collections.abc import Callable, Iterator

import pytest

from tests.testlib.beds.conntrack import ConntrackBed
from tests.testlib.netns import Netns


@pytest.fixture
def bed(netns: Callable[[str], Netns]) -> Iterator[ConntrackBed]:
    made = ConntrackBed(netns)
    yield made
    made.close()
