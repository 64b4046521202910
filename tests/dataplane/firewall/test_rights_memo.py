"""What is made of rights is kept no longer than the rights themselves: policies that come and go leave nothing behind."""

import gc

from dataplane.firewall import rights
from dataplane.state import Allow
from tests.testlib.hosts import FIRST


def test_the_chains_of_a_container_are_forgotten_with_its_rights() -> None:
    allows = frozenset({Allow(number, "tcp", 8080, 8080) for number in range(1, 80)})
    made = rights.of_container(FIRST, allows)
    assert rights.of_container(FIRST, allows) is made
    gc.collect()  # what other tests have left
    before = len(rights._containers)
    del allows
    gc.collect()
    assert len(rights._containers) == before - 1


def test_the_chains_of_a_group_are_forgotten_with_its_members() -> None:
    members = frozenset(range(1, 999))
    made = rights.of_group("acme/*/*", members)
    assert rights.of_group("acme/*/*", members) is made
    gc.collect()
    before = len(rights._groups)
    del members
    gc.collect()
    assert len(rights._groups) == before - 1


def test_equal_rights_give_each_chain_its_own_name() -> None:
    allows = frozenset({Allow(1, "tcp", 8080, 8080)})
    first, second = (rights.of_container(address, allows) for address in (FIRST, FIRST + 1))
    assert list(first) == ["CELLNET-0aff0102"]
    assert list(second) == ["CELLNET-0aff0103"]
