"""What is never outside: this cell's own, other cells, the store and the name servers, followed as they change."""

import asyncio
from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.loop.never_outside import NeverOutside
from agent.model.outside import NEVER, Inside
from tests.testlib.patience import eventually

OVERLAY = IPv4Network("10.255.0.0/16")
INSIDE = Inside(OVERLAY, ("cell.internal",))
OWN, PEER, STORE, SERVER = map(IPv4Address, ("192.0.2.1", "192.0.2.2", "192.0.2.40", "192.0.2.53"))
PEERS = {IPv4Network("10.255.2.0/24"): PEER}


class Changing:
    """Addresses that a test sets."""

    def __init__(self, *addresses: IPv4Address) -> None:
        self.addresses = frozenset(addresses)

    def __call__(self) -> frozenset[IPv4Address]:
        return self.addresses


def covers(networks: tuple[IPv4Network, ...], address: IPv4Address) -> bool:
    return any(address in each for each in networks)


def test_it_is_all_that_is_ours_and_what_no_host_has() -> None:
    never = NeverOutside(INSIDE, store=Changing(STORE), servers=Changing(SERVER))
    found = never.networks(PEERS, own=OWN)
    for address in (
        OWN,
        PEER,
        STORE,
        SERVER,
        *(each[0] for each in (OVERLAY, *NEVER)),
        *(each[-1] for each in (OVERLAY, *NEVER)),
    ):
        assert covers(found, address), address
        assert never.why(address)
    for free in ("1.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "223.255.255.255", "192.0.2.3"):
        assert not covers(found, IPv4Address(free)), free
        assert never.why(IPv4Address(free)) == ""
    assert list(found) == sorted(found)


def test_it_is_the_same_object_until_something_changes() -> None:
    store = Changing(STORE)
    never = NeverOutside(INSIDE, store=store, servers=Changing())
    before = never.networks(PEERS, own=OWN)
    assert never.networks(PEERS, own=OWN) is before
    assert never.networks(dict(PEERS), own=OWN) is before, "other records of the same cells"
    assert not never.look()
    assert covers(
        never.networks({**PEERS, IPv4Network("10.255.3.0/24"): IPv4Address("192.0.2.3")}, own=OWN), IPv4Address("192.0.2.3")
    )
    store.addresses = frozenset({IPv4Address("192.0.2.41")})
    assert never.look()
    found = never.networks(PEERS, own=None)
    assert [covers(found, each) for each in (STORE, IPv4Address("192.0.2.41"), OWN)] == [False, True, False]


async def test_a_change_is_followed_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.loop.never_outside.EVERY", 0.001)
    servers, kicks = Changing(), list[None]()
    never = NeverOutside(INSIDE, store=Changing(), servers=servers)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(never.run(lambda: kicks.append(None)))
        await asyncio.sleep(0.01)
        assert kicks == []
        servers.addresses = frozenset({SERVER})
        await asyncio.to_thread(eventually, lambda: kicks)
        task.cancel()
    assert covers(never.networks({}, own=None), SERVER)
