"""A change is enforced after one look; the second is owed, and never forgotten."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.loop.revocation import DELAY, RETRY, Revocation
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.flows.places import EVERYWHERE, NOWHERE, Places
from dataplane.kernel import Kernel
from dataplane.state import MutualTls
from tests.testlib.beds.conntrack import BedContainer, ConntrackBed, pair
from tests.testlib.connections import is_alive, is_reset


class Clock:
    """Stands still until it is moved on."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def kernel(bed: ConntrackBed) -> Iterator[Kernel]:
    made = Kernel(NftFirewall(), namespace=bed.host.path)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def revocation(kernel: Kernel, clock: Clock) -> Revocation:
    return Revocation(kernel, clock=clock)


def appear(bed: ConntrackBed, source: BedContainer, target: BedContainer) -> None:
    bed.host.run("conntrack", "-I", *f"-p udp -s {source.address} -d {target.address} --sport 5000 --dport 53 -t 60".split())


async def test_a_second_look_is_due_a_little_after_the_first(bed: ConntrackBed, revocation: Revocation, clock: Clock) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    ends = pair(web, api, 8080)
    bed.permit()
    first = await revocation.cut(bed.state, Places(frozenset([api.workload.address])))
    assert first
    assert all(map(is_reset, ends))
    appear(bed, web, api)
    assert await revocation.cut_again(bed.state) is None  # too early
    assert revocation.wait() == pytest.approx(DELAY)
    clock.seconds += DELAY
    assert revocation.wait() == 0
    second = await revocation.cut_again(bed.state)
    assert second
    assert not bed.flows()
    assert revocation.wait() is None


async def test_where_nothing_was_lost_nothing_is_owed(bed: ConntrackBed, revocation: Revocation) -> None:
    assert await revocation.cut(bed.state, NOWHERE) is None
    assert revocation.wait() is None


async def test_second_looks_of_several_changes_are_one_for_all(bed: ConntrackBed, revocation: Revocation, clock: Clock) -> None:
    web, api, db = (bed.container(name) for name in ("web", "api", "db"))
    for each in (api, db):
        await revocation.cut(bed.state, Places(frozenset([each.workload.address])))
    appear(bed, web, api)
    appear(bed, web, db)
    clock.seconds += DELAY
    receipt = await revocation.cut_again(bed.state)
    assert receipt
    assert {flow.destination for flow in receipt.flows} == {api.workload.address, db.workload.address}


async def test_a_second_look_leaves_what_is_allowed_again_meanwhile(
    bed: ConntrackBed, revocation: Revocation, clock: Clock
) -> None:
    web, api = bed.container("web"), bed.container("api")
    await revocation.cut(bed.state, EVERYWHERE)
    bed.permit((web, api, "tcp", 8080))
    ends = pair(web, api, 8080)
    clock.seconds += DELAY
    assert not await revocation.cut_again(bed.state)
    assert is_alive(*ends)


async def test_while_envoy_is_late_there_is_a_look_every_few_seconds_and_one_when_it_has_taken_the_rights(
    bed: ConntrackBed, revocation: Revocation, clock: Clock
) -> None:
    web, api = bed.container("web"), bed.container("api")
    late = frozenset([api.workload.address])
    assert await revocation.cut(bed.state, NOWHERE, late=late) is None
    for _ in range(2):
        assert revocation.wait() == pytest.approx(RETRY)
        assert await revocation.cut_again(bed.state) is None
        appear(bed, web, api)
        clock.seconds += RETRY
        assert await revocation.cut_again(bed.state)
        assert not bed.flows()
    appear(bed, web, api)
    assert await revocation.cut(bed.state, NOWHERE)
    assert not bed.flows()
    clock.seconds += DELAY
    assert await revocation.cut_again(bed.state) is not None
    assert revocation.wait() is None


async def test_where_there_are_tunnels_a_third_look_is_due_a_few_seconds_later(
    bed: ConntrackBed, revocation: Revocation, clock: Clock
) -> None:
    web, api = bed.container("web"), bed.container("api")
    state = replace(bed.state, mutual_tls=MutualTls(served=True, redirected=True))
    await revocation.cut(state, Places(frozenset([api.workload.address])))
    clock.seconds += DELAY
    assert await revocation.cut_again(state) is not None
    appear(bed, web, api)
    assert revocation.wait() == pytest.approx(RETRY)
    clock.seconds += RETRY
    assert await revocation.cut_again(state)
    assert not bed.flows()
    assert revocation.wait() is None


async def test_an_envoy_that_is_late_does_not_put_off_a_second_look(
    bed: ConntrackBed, revocation: Revocation, clock: Clock
) -> None:
    api = bed.container("api")
    await revocation.cut(bed.state, Places(frozenset([api.workload.address])), late=frozenset([api.workload.address]))
    assert revocation.wait() == pytest.approx(DELAY)
    clock.seconds += DELAY / 2
    await revocation.cut(bed.state, NOWHERE, late=frozenset([api.workload.address]))
    assert revocation.wait() == pytest.approx(DELAY / 2)


async def test_a_second_look_that_fails_is_still_owed(
    bed: ConntrackBed, revocation: Revocation, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await revocation.cut(bed.state, EVERYWHERE)
    clock.seconds += DELAY
    with monkeypatch.context() as patch:
        patch.setattr("host.netlink.socket.HEADER", None)
        with pytest.raises(Exception):  # noqa: B017 -- any
            await revocation.cut_again(bed.state)
    assert revocation.wait() == pytest.approx(RETRY)
    clock.seconds += RETRY
    assert await revocation.cut_again(bed.state) is not None
    assert revocation.wait() is None
