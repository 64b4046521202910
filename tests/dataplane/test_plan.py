"""The planner: a diff applied to where we are leads to where we want to be, and then there is nothing to do."""

from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import get_args, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from dataplane.compile import compile_tables
from dataplane.firewall.backends.restore import restore_text
from dataplane.firewall.backends.save import read_save
from dataplane.firewall.outside_matches import FEW
from dataplane.plan import Plan, diff, plan
from dataplane.state import Allow, HostState, Limits, OutsideRight, Resolver, Tunnel, Workload
from dataplane.tables import ChainKey, Tables, host_interface
from tests.testlib.hosts import EMPTY, FIRST, underlay_of

small = st.dictionaries(st.integers(0, 5), st.integers(0, 3))


@given(desired=small, actual=small)
def test_a_diff_applied_is_the_desired_table(desired: dict[int, int], actual: dict[int, int]) -> None:
    delta = diff(desired, actual)
    reached = {key: value for key, value in actual.items() if key not in delta.drop} | dict(delta.put)
    assert reached == desired
    assert not diff(desired, reached)


@given(desired=small, actual=small)
def test_a_diff_touches_only_what_differs(desired: dict[int, int], actual: dict[int, int]) -> None:
    delta = diff(desired, actual)
    assert all(actual.get(key) != value for key, value in delta.put.items())
    assert delta.old == {key: actual[key] for key in delta.change}


states = st.builds(
    lambda rights: replace(
        EMPTY,
        workloads={
            FIRST + number: Workload(f"c{number}", FIRST + number, number + 1, Path(f"/p/{number}"), allows=allows)
            for number, allows in rights.items()
        },
    ),
    st.dictionaries(
        st.integers(0, 250),
        st.frozensets(st.builds(Allow, st.integers(1, 9), st.just("tcp"), st.just(80), st.integers(80, 90)), max_size=3),
        max_size=4,
    ),
)


@given(desired=states, actual=states)
def test_a_plan_between_equal_tables_is_empty_and_between_others_is_not(desired: HostState, actual: HostState) -> None:
    assert not plan(compile_tables(desired), compile_tables(desired))
    assert bool(plan(compile_tables(desired), compile_tables(actual))) == (compile_tables(desired) != compile_tables(actual))


@given(state=states)
def test_every_container_has_a_chain_and_a_way_to_it(state: HostState) -> None:
    chains = compile_tables(state).chains
    for address in state.workloads:
        name = f"CELLNET-{int(address):08x}"
        assert chains[ChainKey(4, "filter", name)][-1] == "-j CELLNET-REJECT"
        assert sum(f"-d {address}/32 -g {name}" in rules for rules in chains.values()) == 1


@given(state=states)
def test_no_chain_of_a_container_can_be_left_without_an_answer(state: HostState) -> None:
    for key, rules in compile_tables(state).chains.items():
        if key.table == "filter" and (key.chain.startswith("CELLNET-TO") or key.chain.startswith("CELLNET-0a")):
            assert rules[-1] == "-j CELLNET-REJECT"


@given(before=states, after=states)
def test_restore_text_read_as_a_save_gives_the_chains_back(before: HostState, after: HostState) -> None:
    wanted = compile_tables(after)
    text = restore_text(family=4, chains=diff(wanted.chains, {}), jumps=diff(wanted.jumps, {}))
    found = read_save(text, family=4).chains
    assert found == {key: rules for key, rules in wanted.chains.items() if key.family == 4}


def test_a_plan_has_a_delta_of_the_same_types_for_each_table() -> None:
    tables, deltas = get_type_hints(Tables), get_type_hints(Plan)
    assert [*tables] == [*deltas]
    assert {name: get_args(table) for name, table in tables.items()} == {name: get_args(deltas[name]) for name in tables}


def test_no_table_is_left_out_when_a_state_is_compiled() -> None:
    """What no state fills, no apply would ever write; what `Kernel.read` leaves out, every test with a kernel finds."""
    right = OutsideRight("tcp", 443, 443, tuple(IPv4Network((0xC6120000 + 2 * number, 32)) for number in range(FEW + 1)))
    by_name = OutsideRight("tcp", 443, 443, names=("api.example.com",))
    whole = replace(
        EMPTY,
        workloads={
            FIRST: Workload("web", FIRST, 7, Path("/p"), egress=frozenset({right, by_name}), limits=Limits(1_000_000, 9, 9))
        },
        tunnel=Tunnel("u0", underlay_of(1), vni=1, port=4789),
        peers={IPv4Network("10.255.2.0/24"): underlay_of(2)},
        resolver=Resolver(IPv4Address("169.254.0.2"), ("cell.internal",)),
    )
    tables = compile_tables(whole)
    assert not [each.name for each in fields(Tables) if not getattr(tables, each.name)]


def test_a_plan_prints_what_apply_would_do() -> None:
    state = replace(EMPTY, workloads={FIRST: Workload("web", FIRST, 7, Path("/p"))})
    said = str(plan(compile_tables(state), compile_tables(EMPTY)))
    assert "veths + cnet0aff0102" in said
    assert "tags + 10.255.1.2 7" in said
    assert not str(plan(Tables(), Tables()))


def test_one_right_more_changes_one_chain() -> None:
    def state(*allows: Allow) -> HostState:
        return replace(
            EMPTY,
            workloads={
                FIRST + number: Workload(
                    f"c{number}", FIRST + number, number + 1, Path("/p"), allows=frozenset(allows if number == 3 else ())
                )
                for number in range(20)
            },
        )

    changes = plan(compile_tables(state(Allow(1, "tcp", 80, 80))), compile_tables(state()))
    assert list(changes.chains.put) == [ChainKey(4, "filter", f"CELLNET-{int(IPv4Address('10.255.1.5')):08x}")]
    assert changes.count() == 1
    assert not any(getattr(changes, each.name) for each in fields(Plan) if each.name != "chains")


@given(st.ip_addresses(v=4))
def test_every_address_gives_a_link_of_its_own_with_a_name_that_the_kernel_takes(address: IPv4Address) -> None:
    name = host_interface(address)
    assert len(name) <= 15
    assert IPv4Address(int(name.removeprefix("cnet"), 16)) == address


@given(state=states)
def test_a_host_without_ipv6_has_nothing_of_it_to_set_or_to_drop(state: HostState) -> None:
    tables = compile_tables(replace(state, ipv6=False))
    assert not [key for key in tables.sysctls if "ipv6" in key]
    assert not [key for key in tables.chains if key.family == 6]
