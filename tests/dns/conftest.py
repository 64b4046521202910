"""Fixtures of this folder."""

from collections.abc import Iterator

import pytest

from tests.testlib.beds.dns import DnsBed, dns_bed
from tests.testlib.containers import attach  # noqa: F401 -- a fixture
from tests.testlib.netns import Netns


@pytest.fixture(scope="module")
def module_bed() -> Iterator[DnsBed]:
    """Behind `bed`."""
    made: list[Netns] = []

    def netns(word: str) -> Netns:
        made.append(Netns(word))
        return made[-1]

    try:
        with dns_bed(netns) as bed:
            yield bed
    finally:
        for each in made:
            each.close()


@pytest.fixture
def bed(module_bed: DnsBed) -> DnsBed:
    """dnsmasq without names, beside two containers."""
    module_bed.publish({})
    return module_bed
