"""Who may use which port through a tunnel: SPIFFE ids and ranges of ports, judged by the callee's Envoy."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from google.protobuf.duration_pb2 import Duration

from dataplane.envoy import rights_filters
from dataplane.envoy.caller_rights import SHARDS
from dataplane.envoy.refusal import Check, Refusal
from dataplane.envoy.sockets.container_ports import ContainerPort, await_listening
from dataplane.envoy.translation import Translation, listener_key, rights_keys
from dataplane.state import INBOUND_PORT, Allow, InboundListener
from tests.testlib.envoy import API, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial
from tests.testlib.patience import PATIENCE, eventually
from tests.testlib.tunnels.pair import API_TAG, PRINCIPALS, WEB_TAG, TunnelPair

FIRST_TAG, MANY = 1000, 2000
IDS = {tag: f"spiffe://cell.internal/org/acme/space/space-{tag % 40}/app/application-{tag}" for tag in range(1000, 6000)}
CROWD = frozenset(Allow(tag, "tcp", 8080, 8080) for tag in range(FIRST_TAG, FIRST_TAG + MANY - 1))
SHOP, ACME = "acme/shop/*", "acme/*/*"


@pytest.fixture(scope="module")
def tunnels() -> Iterator[TunnelPair]:
    """One for all: each test says what is allowed."""
    cell, pair = EnvoyCell(), EnvoyPair()
    try:
        cell.start()
        made = TunnelPair(cell, pair)
        cell.publish(principals={**IDS, **PRINCIPALS})
        yield made
    finally:
        pair.close()
        cell.close()


@pytest.fixture
def app(tunnels: TunnelPair) -> Iterator[EchoApp]:
    made = EchoApp(tunnels.pair.api.path)
    yield made
    made.close()


def test_a_range_admits_its_first_and_last_port_and_not_their_neighbours(tunnels: TunnelPair) -> None:
    tunnels.allow(Allow(WEB_TAG, "tcp", 1, 1), Allow(WEB_TAG, "tcp", 8001, 8003), Allow(WEB_TAG, "tcp", 65535, 65535))
    asked = (1, 2, 8000, 8001, 8003, 8004, 65534, 65535)
    apps = [EchoApp(tunnels.pair.api.path, port=port) for port in asked]
    try:
        assert [port for port in asked if tunnels.reaches(port)] == [1, 8001, 8003, 65535]
        assert [app.port for app in apps if app.peers] == [1, 8001, 8003, 65535]
    finally:
        for each in apps:
            each.close()


@pytest.mark.parametrize(
    ("allows", "reached"),
    [
        ((), False),
        ((Allow(WEB_TAG, "udp", 8080, 8080),), False),
        ((Allow(FIRST_TAG, "tcp", 8080, 8080),), False),
        ((Allow(9, "tcp", 8080, 8080),), False),  # a tag without an id
        ((Allow(0, "tcp", 8080, 8080, SHOP),), True),
        ((Allow(0, "tcp", 8080, 8080, ACME),), True),
        ((Allow(0, "tcp", 8080, 8080, "acme/other/*"),), False),  # a scope without a prefix
        # ranges of others, and narrower ones of its own and of its scopes, that come before the one that admits it
        ((Allow(FIRST_TAG, "tcp", 8080, 8081), Allow(WEB_TAG, "tcp", 8079, 8079), Allow(WEB_TAG, "tcp", 8080, 9000)), True),
        ((Allow(WEB_TAG, "tcp", 8000, 8079), Allow(0, "tcp", 8000, 8100, SHOP)), True),
        ((Allow(WEB_TAG, "tcp", 8000, 8100), Allow(0, "tcp", 8000, 8079, SHOP)), True),
        ((Allow(0, "tcp", 8000, 8079, SHOP), Allow(0, "tcp", 8000, 8100, ACME)), True),
        ((Allow(WEB_TAG, "tcp", 8000, 8079), Allow(0, "tcp", 8081, 8100, SHOP)), False),
    ],
)
def test_a_right_is_that_of_an_app_or_of_a_scope(
    tunnels: TunnelPair, app: EchoApp, allows: tuple[Allow, ...], *, reached: bool
) -> None:
    tunnels.allow(*allows)
    assert tunnels.reaches() is reached
    assert bool(app.peers) is reached


def test_what_an_audit_alone_lets_in_is_told_at_once_and_what_a_right_lets_in_is_not(tunnels: TunnelPair, app: EchoApp) -> None:
    tunnels.cell.refusals.clear()

    def told(check: Check) -> list[int]:
        return sorted(each.port for each in tunnels.cell.refusals if each.check is check)

    # of one app and of its space, which are in two shards
    tunnels.allow(Allow(0, "tcp", 8080, 8080, SHOP), Allow(WEB_TAG, "tcp", 8080, 8082, audit=True))
    audited = EchoApp(tunnels.pair.api.path, port=8081)
    try:
        assert tunnels.reaches()
        with dial(tunnels.pair.web.path, address=API, port=8081) as connection:
            connection.sendall(b"hello")
            eventually(lambda: told(Check.AUDIT) == [8081])
            assert connection.recv(5) == b"hello", "it lives yet"
        assert not tunnels.reaches(8082), "nothing listens there"
        assert not tunnels.reaches(8083)
        eventually(lambda: 8083 in told(Check.RIGHTS) and told(Check.AUDIT) == [8081, 8082])
        first = next(each for each in tunnels.cell.refusals if each.check is Check.AUDIT)
        ends = {"caller": PRINCIPALS[WEB_TAG], "callee": PRINCIPALS[API_TAG]}
        assert replace(first, words="") == Refusal(Check.AUDIT, WEB, API, 8081, verified=True, **ends)
        # of two scopes, which are in the same shard
        tunnels.allow(Allow(0, "tcp", 8080, 8080, ACME), Allow(0, "tcp", 8080, 8081, SHOP, audit=True))
        assert tunnels.reaches(8080)
        assert tunnels.reaches(8081)
        eventually(lambda: told(Check.AUDIT) == [8081, 8081, 8082])
    finally:
        audited.close()


def test_one_of_two_thousand_rights_is_one_small_push_that_takes_effect_at_once(tunnels: TunnelPair, app: EchoApp) -> None:
    mine = Allow(WEB_TAG, "tcp", 8080, 8080)
    tunnels.allow(*CROWD)
    listener = tunnels.cell.table[listener_key(API, InboundListener)]
    for allows, reached in ((CROWD | {mine}, True), (CROWD, False), (CROWD | {mine}, True)):
        before, pushed = tunnels.cell.table, tunnels.cell.status().pushed
        tunnels.allow(*allows)
        assert tunnels.reaches() is reached
        assert tunnels.cell.status().pushed == pushed + 1
        (key,) = (key for key, each in tunnels.cell.table.items() if before[key] != each)
        assert len(tunnels.cell.table[key].body) < 100_000
    assert tunnels.cell.table[listener_key(API, InboundListener)] is listener
    assert tunnels.cell.status().refused == {}


def test_shards_that_have_not_changed_are_not_made_anew_and_equal_fresh_ones(tunnels: TunnelPair) -> None:
    tunnels.allow(*CROWD)
    before = tunnels.cell.table
    tunnels.allow(*CROWD, Allow(WEB_TAG, "tcp", 8080, 8080))
    after = tunnels.cell.table
    assert sum(after[key] is before[key] for key in rights_keys(API)) == SHARDS - 1
    assert after == Translation().of(tunnels.cell.state)


def test_rights_of_many_different_ports_are_taken(tunnels: TunnelPair, app: EchoApp) -> None:
    ports = [Allow(tag, "tcp", tag, tag) for tag in range(FIRST_TAG, FIRST_TAG + 4095)]
    tunnels.allow(*ports, Allow(WEB_TAG, "tcp", 8080, 8080))
    assert tunnels.reaches()
    tunnels.allow(*ports)
    assert not tunnels.reaches()


def test_rights_that_do_not_come_are_none_and_cost_no_other_shard_its_callers(
    tunnels: TunnelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights_filters, "SECRET_TIMEOUT", Duration(seconds=1))
    cell, netns, shard = tunnels.cell, tunnels.pair.api, WEB_TAG % SHARDS
    without, with_it = IPv4Address("10.255.1.4"), IPv4Address("10.255.1.5")
    missing = {rights_keys(without)[shard], *(key for key in rights_keys(with_it) if key != rights_keys(with_it)[shard])}
    cell.loop.call(lambda: cell.ads.withhold(missing))
    apps = []
    for address in (without, with_it):
        netns.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        cell.put(tunnels.workload("api", address, 8, Allow(WEB_TAG, "tcp", 8080, 8080)))
        apps.append(EchoApp(netns.path, address=address))
    try:
        for address in (without, with_it):
            await_listening(ContainerPort(address, INBOUND_PORT, netns.path), timeout=PATIENCE)
        assert not tunnels.reaches(address=without)
        assert tunnels.reaches(address=with_it)
        assert [len(each.peers) for each in apps] == [0, 1]
    finally:
        cell.loop.call(lambda: cell.ads.withhold(()))
        for each in apps:
            each.close()
