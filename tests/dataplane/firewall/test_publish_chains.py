"""The way to a published port through the chains, by their text alone: short among thousands, and right at every edge."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.firewall.publish import CHAIN, published_chains
from dataplane.plan import plan
from dataplane.state import HostState, OutsideRight, PublishedPort, Workload
from tests.testlib.hosts import EMPTY, FIRST

Chains = Mapping[str, tuple[str, ...]]


def state(*ports: PublishedPort) -> HostState:
    """One container publishes them."""
    return replace(EMPTY, workloads={FIRST: Workload("c", FIRST, 1, Path("/p"), publish=ports)})


def chains_of(*ports: PublishedPort) -> Chains:
    return {name: tuple(rules) for name, rules in published_chains(state(*ports)).items()}


def led(chains: Chains, protocol: str, port: int, *, to: str = "192.0.2.1") -> tuple[str, int]:
    """Where a call to an address is led, empty where nowhere, and how many rules were looked at."""
    count, ways = 0, [iter(chains[CHAIN][1:])]
    while ways:
        for rule in ways[-1]:
            count += 1
            words = rule.split()
            first, _, last = words[words.index("--dport") + 1].partition(":")
            if "-d" in words and words[words.index("-d") + 1] != f"{to}/32":
                continue
            if words[words.index("-p") + 1] != protocol or not int(first) <= port <= int(last or first):
                continue
            if "DNAT" in words:
                return words[-1], count
            if words[-2] == "-g":  # from there nothing leads back
                ways.pop()
            ways.append(iter(chains[words[-1]]))
            break
        else:
            ways.pop()
    return "", count


def test_the_way_is_short_among_thousands_of_ports() -> None:
    ports = [PublishedPort(protocol, None, 3 * n, 3 * n, 80) for protocol in ("tcp", "udp") for n in range(1, 2001)]
    chains = chains_of(*ports)
    assert {led(chains, each.protocol, each.first)[0] for each in ports} == {f"{FIRST}:80"}
    assert max(led(chains, each.protocol, each.first + more)[1] for each in ports for more in (0, 1)) <= 130
    few = chains_of(*ports[:8])
    assert set(few) == {CHAIN, "CELLNET-DETOURS"}, "one chain for few"


RANGES = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 6)), max_size=80)


@given(RANGES, st.integers(1, 410))
def test_a_call_is_led_exactly_where_its_port_is_published(found: list[tuple[int, int]], dialled: int) -> None:
    ports: list[PublishedPort] = []
    for first, more in sorted(found):
        if not ports or ports[-1].last < first:
            ports.append(PublishedPort("tcp", None, first, first + more, first))
    if not ports:
        assert published_chains(state()) == {}
        return
    is_published = any(each.first <= dialled <= each.last for each in ports)
    assert bool(led(chains_of(*ports), "tcp", dialled)[0]) is is_published
    assert not led(chains_of(*ports), "udp", dialled)[0]


def test_a_range_of_one_address_that_reaches_into_anothers_part_takes_no_call_of_it() -> None:
    wide = PublishedPort("tcp", IPv4Address("192.0.2.7"), 1000, 2000, 1000)
    beside = [PublishedPort("tcp", IPv4Address("192.0.2.8"), 1000 + n, 1000 + n, 80) for n in range(100)]
    chains = chains_of(wide, *beside)
    assert len(chains) > 3
    for port in (1000, 1050, 1099):
        assert led(chains, "tcp", port, to="192.0.2.7")[0] == str(FIRST)
        assert led(chains, "tcp", port, to="192.0.2.8")[0] == f"{FIRST}:80"
        assert not led(chains, "tcp", port, to="192.0.2.9")[0]


def test_what_another_app_may_be_called_from_touches_no_others_chain() -> None:
    networks = EMPTY.overlay.supernet(new_prefix=1)

    def placed(last: int) -> HostState:
        rights = {number: OutsideRight("tcp", number, number, (networks,)) for number in range(1, 51)}
        rights[7] = OutsideRight("tcp", 7, last, (networks,))
        return replace(
            EMPTY,
            workloads={
                FIRST + n: Workload(f"c{n}", FIRST + n, n, Path("/p"), ingress=frozenset({each})) for n, each in rights.items()
            },
        )

    changes = plan(compile_tables(placed(9)), compile_tables(placed(8)))
    assert len(changes.chains.change) == 1, "the way there"
    assert (len(changes.chains.add), len(changes.chains.drop)) == (1, 1)
