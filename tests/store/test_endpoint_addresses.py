"""Where the store is: names of etcd's endpoints are followed, and one that is not answered keeps the addresses that it had."""

import asyncio
import socket
import threading
from ipaddress import IPv4Address
from typing import Any

import pytest

from agent.store import endpoint_addresses
from agent.store.endpoint_addresses import KEPT, EndpointAddresses
from host.name_lookups import NameLookups


class Names:
    """A resolver that a test sets, and its clock."""

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self.time = 0.0

    async def __call__(self, name: str) -> tuple[str, ...]:
        if name not in self.addresses:
            raise OSError("Temporary failure in name resolution")
        return self.addresses[name]

    def endpoints(self, *hosts: str) -> EndpointAddresses:
        return EndpointAddresses(hosts, elapsed=lambda: self.time, resolve=self)


async def test_a_name_that_is_not_answered_keeps_its_addresses() -> None:
    names = Names(one=("192.0.2.41", "192.0.2.42"))
    found = names.endpoints("one")
    await found.look()
    assert found.all == {IPv4Address("192.0.2.41"), IPv4Address("192.0.2.42")}
    before = found.all
    names.addresses.clear()
    names.time = 10 * KEPT
    await found.look()
    assert found.all is before
    assert found.problems() == ()


async def test_an_address_that_a_name_had_lately_counts_for_a_while() -> None:
    names = Names(one=("192.0.2.41",))
    found = names.endpoints("one")
    await found.look()
    names.addresses["one"], names.time = ("192.0.2.42",), KEPT
    await found.look()
    assert len(found.all) == 2
    names.time = KEPT + 1
    await found.look()
    assert found.all == {IPv4Address("192.0.2.42")}


async def test_an_endpoint_without_a_known_address_is_a_problem_until_it_has_one() -> None:
    names = Names(two=("192.0.2.42",))
    found = names.endpoints("one", "two")
    await found.look()
    (problem,) = found.problems()
    assert problem.what == "the address of etcd's endpoint one is not known, so containers are not kept from it"
    names.addresses["one"] = ("192.0.2.41",)
    await found.look()
    assert found.problems() == ()


async def test_names_and_addresses_are_found_as_the_host_finds_them() -> None:
    hosts = ("192.0.2.40", "localhost", "a" * 64)
    found = EndpointAddresses(hosts, elapsed=lambda: 0.0, resolve=NameLookups().addresses)
    await found.look()
    assert found.all == {IPv4Address("192.0.2.40"), IPv4Address("127.0.0.1")}
    assert len(found.problems()) == 1


async def test_a_name_server_that_is_silent_holds_up_no_look_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = list[str](), threading.Event()

    def silent(name: str, *_: object, **__: object) -> list[Any]:
        asked.append(name)
        answered.wait(timeout=20)
        return [(0, 0, 0, "", ("192.0.2.41", 0))]

    monkeypatch.setattr(endpoint_addresses, "PATIENCE", 0.01)
    monkeypatch.setattr(socket, "getaddrinfo", silent)
    found = EndpointAddresses(("one",), elapsed=lambda: 0.0, resolve=NameLookups().addresses)
    await found.look()
    await found.look()
    assert (asked, found.all) == (["one"], frozenset())
    answered.set()
    async with asyncio.timeout(20):
        while not found.all:
            await found.look()
    assert found.all == {IPv4Address("192.0.2.41")}
