"""Which ports of the host containers may have outside: none to which anything else is sent."""

from dataclasses import replace
from pathlib import Path

import pytest

from dataplane.firewall.nat import nat_chains
from dataplane.state import HostState, PublishedPort, Tunnel, Workload
from tests.testlib.hosts import EMPTY, underlay_of


def publishing(*ranges: tuple[int, int]) -> HostState:
    ports = tuple(PublishedPort("udp", None, first, last, 80) for first, last in ranges)
    address = EMPTY.subnet[2]
    made = Workload(name="c", address=address, tag=1, pin=Path("/pins/c"), allows=frozenset(), publish=ports)
    return replace(EMPTY, egress_allowed=True, workloads={address: made})


def ports_out(state: HostState) -> set[str]:
    """Of TCP and UDP; without such a port is what has none."""
    rules = [each for each in nat_chains(state)["CELLNET-POSTROUTING"] if "-j MASQUERADE" in each]
    assert [each for each in rules if "--to-ports" not in each] == [rules[-1]]
    assert ["-p tcp" in rules[0], "-p udp" in rules[1]] == [True, True]
    return {each.split()[-1] for each in rules[:-1]}


@pytest.mark.parametrize(
    ("ranges", "out"),
    [
        ((), "32768-60999"),
        (((80, 90), (61_000, 65_535)), "32768-60999"),
        (((40_000, 40_000),), "40001-60999"),
        (((50_000, 50_010), (35_000, 35_000)), "35001-49999"),
        (((30_000, 40_000), (35_000, 36_000), (60_000, 65_535)), "40001-59999"),
        (((1024, 65_535),), "32768-60999"),
    ],
)
def test_they_are_the_longest_stretch_in_which_nothing_is_published(ranges: tuple[tuple[int, int], ...], out: str) -> None:
    assert ports_out(publishing(*ranges)) == {out}


def test_the_ends_of_tunnels_are_none_of_them() -> None:
    state = replace(publishing((40_000, 40_000)), tunnel=Tunnel("u0", underlay_of(1), vni=1, port=50_000))
    assert ports_out(state) == {"50001-60999"}
