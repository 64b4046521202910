"""A sweep looks more than once: what becomes a flow just after a look is cut by a later one."""

import pytest

from dataplane.flows import cut
from dataplane.flows.cut import SweepPhase
from tests.testlib.beds.conntrack import ConntrackBed, pair
from tests.testlib.connections import is_reset


class IntrusiveClock:
    """Whenever it is read from the second time on, which is just after a look, another forbidden flow appears."""

    def __init__(self, bed: ConntrackBed, target: str, *, appearances: int) -> None:
        self._bed, self._target = bed, target
        self._left, self._reads = appearances, 0

    def __call__(self) -> float:
        self._reads += 1
        if self._reads > 1 and self._left:
            self._left -= 1
            self._bed.host.run("conntrack", "-I", *f"-p udp -s 10.200.1.99 -d {self._target} --sport {5000 + self._reads} "
                               "--dport 53 -t 60".split())  # fmt: skip
        return float(self._reads)


@pytest.mark.parametrize("everything", [False, True], ids=["one address", "all addresses"])
def test_a_flow_that_appears_just_after_a_look_is_cut_by_the_next(bed: ConntrackBed, everything: bool) -> None:
    api = bed.container("api")
    clock = IntrusiveClock(bed, api.address, appearances=1)
    addresses = None if everything else [api.workload.address]
    receipt = bed.sweep_addresses(addresses, clock=clock)
    assert len(receipt.flows) == receipt.entries_deleted == 1
    assert not bed.flows()


def test_a_sweep_ends_though_flows_keep_appearing(bed: ConntrackBed) -> None:
    api = bed.container("api")
    clock = IntrusiveClock(bed, api.address, appearances=100)
    receipt = bed.sweep_addresses(None, clock=clock)
    assert 2 <= len(receipt.flows) <= 2 * cut.ROUNDS + 2


@pytest.mark.parametrize("everything", [False, True], ids=["one address", "all addresses"])
def test_the_first_look_cuts_what_flows_and_a_later_one_what_came_after(bed: ConntrackBed, everything: bool) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    ends = pair(web, api, 8080)
    bed.permit()
    whom = () if everything else (api,)
    first = bed.sweep(*whom, phases=[SweepPhase.FIRST])
    assert (len(first.flows), first.sockets_destroyed) == (1, 1)
    assert all(map(is_reset, ends))
    bed.host.run("conntrack", "-I", *f"-p udp -s {web.address} -d {api.address} --sport 5000 --dport 53 -t 60".split())
    assert [each.source_port for each in bed.sweep(*whom, phases=[SweepPhase.LATER]).flows] == [5000]
    assert not bed.flows()
    assert not bed.sweep(*whom, phases=[SweepPhase.LATER])


def test_the_first_look_cuts_what_has_no_socket_too(bed: ConntrackBed) -> None:
    web, api = bed.container("web"), bed.container("api")
    bed.host.run("conntrack", "-I", *f"-p udp -s {web.address} -d {api.address} --sport 5000 --dport 53 -t 60".split())
    assert len(bed.sweep(api, phases=[SweepPhase.FIRST]).flows) == 1
    assert not bed.flows()
