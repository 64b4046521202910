"""What gets to a container in each mode of mutual TLS: as the language has it, by the rules' text and by the judge of flows."""

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.model.names import AppName
from agent.policy.language.language import parse
from agent.policy.rights.resolve import PolicyResolver
from dataplane import admission
from dataplane.admission import admitted
from dataplane.compile import compile_tables
from dataplane.firewall.filter import filter_chains
from dataplane.firewall.rights import AUDIT, container_chain
from dataplane.flows.conntrack import Flow
from dataplane.state import Allow, HostState, Tunnel, Workload
from tests.testlib.chain_walk import Packet, walked
from tests.testlib.hosts import EMPTY, FIRST, allow, subnet_of, underlay_of
from tests.testlib.judged import is_forbidden
from tests.testlib.oracle import Known, Mode, Rule, arrives, leaves
from tests.testlib.tunnels.modes import BACK, MODES

WEB, API, DB, BLOG, FOREIGN = APPS = ("acme/shop/web", "acme/shop/api", "acme/shop/db", "acme/blog/web", "zeta/shop/web")
ASKED = (1, 80, 8080, 15000, 15001, 15002, 15007, 15008, 15009, 61442, 61443, 61444, 65535)
NUMBERS = {"tcp": 6, "udp": 17}

PORTS = st.sampled_from([
    "any", "80", "8080", "61443", "15001-15002", "15007-15008", "15008-15009", "15000-15010", "61443-61444",
    "1-61443", "61000-65535",
])  # fmt: skip


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    source = st.sampled_from([*APPS, "same-space", "same-org", "acme/shop/*"])
    rule: dict[str, object] = {
        "from": draw(source | st.lists(source, min_size=1, max_size=2)),
        "to": draw(st.sampled_from([API, "acme/shop/*"])),
    }
    for protocol in draw(st.sampled_from([("tcp",), ("udp",), ("tcp", "udp")])):
        rule[protocol] = draw(st.lists(PORTS, min_size=1, max_size=3))
    return {**rule, "mode": "audit"} if draw(st.booleans()) else rule


def host_state(found: list[Rule], mode: Mode) -> HostState:
    """A cell with one instance of each app, but one of FOREIGN, by the product's own reading of the rules."""
    tags = {AppName.parse(app): number for number, app in enumerate(APPS, 1)}
    resolver = PolicyResolver()
    resolver.update(parse(json.dumps({"policies": found}).encode(), source="/a.yaml"), tags)
    workloads = {
        FIRST + tag: Workload(app.app, FIRST + tag, tag, Path("/nowhere"), allows=resolver.allows(app))
        for app, tag in tags.items()
        if str(app) != FOREIGN
    }
    groups = {name: resolver.groups().get(name, frozenset()) for each in workloads.values() for name in _groups(each)}
    peers = {subnet_of(2): underlay_of(2)}
    return replace(
        EMPTY, workloads=workloads, groups=groups, tunnel=Tunnel("u0", underlay_of(1), 1, 4789), peers=peers,
        mutual_tls=MODES[mode],
    )  # fmt: skip


def _groups(workload: Workload) -> set[str]:
    return {each.group for each in workload.allows if each.group}


def filter_of(state: HostState) -> dict[str, tuple[str, ...]]:
    """Its chains, but for the one that says how to refuse."""
    return {name: tuple(lines) for name, lines in filter_chains(state).items() if name != "CELLNET-REJECT"}


def flow(source: IPv4Address, target: IPv4Address, protocol: str, port: int, *, tag: int = 0) -> Flow:
    return Flow(NUMBERS[protocol], source, 40000, target, port, target, port, source, 40000, 0, 1, 0, b"", tag)


@example(found=[{"from": WEB, "to": API, "tcp": ["any"], "mode": "audit"}], mode=Mode.ACCEPT, source=WEB)
@given(found=st.lists(rules(), max_size=4), mode=st.sampled_from(Mode), source=st.sampled_from(APPS))
def test_rules_and_judge_admit_what_the_language_says_in_each_mode(found: list[Rule], mode: Mode, source: str) -> None:
    state = host_state(found, mode)
    chains, afar = filter_of(state), subnet_of(2)[9]
    tag, api, known = APPS.index(source) + 1, FIRST + 2, Known(files={"a.yaml": found})
    noting = {name: lines for name, lines in chains.items() if name != AUDIT}
    firm = Known(files={"a.yaml": [each for each in found if "mode" not in each]})
    for protocol in ("tcp", "udp"):
        for port in ASKED:
            right = arrives(source, to=API, protocol=protocol, port=port, known=known, mode=mode)
            target = walked(chains, container_chain(api), Packet(tag, protocol, port))
            assert target == ("ACCEPT" if right else "CELLNET-REJECT"), (protocol, port)
            is_tunnel = (protocol, port) == ("tcp", 15008) and mode is not Mode.NONE  # Envoy notes its streams
            is_noted = (
                right and not is_tunnel and not arrives(source, to=API, protocol=protocol, port=port, known=firm, mode=mode)
            )
            assert walked(noting, container_chain(api), Packet(tag, protocol, port)) == (AUDIT if is_noted else target)
            assert is_forbidden(flow(afar, api, protocol, port, tag=tag), state) is not right, (protocol, port)
            if source != FOREIGN:
                assert is_forbidden(flow(FIRST + tag, api, protocol, port), state) is not right, (protocol, port)


@pytest.mark.parametrize("mode", Mode)
def test_what_leaves_for_another_cell_is_the_same_to_rules_and_judge(mode: Mode) -> None:
    state = host_state([], mode)
    beyond = {"CELLNET-NEW": tuple(rule for rule in filter_of(state)["CELLNET-NEW"] if "-i cnet+ -o cellnet0" in rule)}
    for protocol in NUMBERS:
        for port in ASKED:
            may = leaves(port, protocol=protocol, mode=mode)
            target = walked(beyond, "CELLNET-NEW", Packet(1, protocol, port))
            assert target == ("ACCEPT" if may else "CELLNET-REJECT"), (protocol, port)
            assert is_forbidden(flow(FIRST + 1, subnet_of(2)[9], protocol, port), state) is not may, (protocol, port)


def ports(mode: Mode, *rights: Allow) -> set[str]:
    """As they are written in a policy."""
    found = admitted(frozenset(rights), MODES[mode], tls_port=61443)
    return {f"{each.protocol}/{each.first}-{each.last}" for each in found}


@pytest.mark.parametrize(
    ("right", "accept", "strict"),
    [
        ("8080", {"tcp/8080-8080", "tcp/15008-15008"}, {"tcp/15008-15008"}),
        ("61443", {"tcp/61443-61443"}, {"tcp/61443-61443"}),
        ("15008", set(), set()),
        ("15001", set(), set()),
        ("15008-15009", {"tcp/15008-15009"}, {"tcp/15008-15008"}),
        ("15000-15002", {"tcp/15000-15000", "tcp/15002-15002", "tcp/15008-15008"}, {"tcp/15008-15008"}),
        ("1-65535", {"tcp/1-15000", "tcp/15002-65535"}, {"tcp/15008-15008", "tcp/61443-61443"}),
        ("61443-61444", {"tcp/61443-61444", "tcp/15008-15008"}, {"tcp/15008-15008", "tcp/61443-61443"}),
    ],
)
def test_a_right_stands_for_these_ports(right: str, accept: set[str], strict: set[str]) -> None:
    assert ports(Mode.ACCEPT, allow(1, right)) == accept
    assert ports(Mode.STRICT, allow(1, right)) == strict


@pytest.mark.parametrize("mode", Mode)
def test_udp_is_the_same_in_every_mode(mode: Mode) -> None:
    assert ports(mode, allow(1, "1-65535", "udp"), allow(2, "15008", "udp")) == {"udp/1-65535", "udp/15008-15008"}


def test_another_port_for_tls_is_the_one_that_passes() -> None:
    rights = frozenset({allow(1, "8443"), allow(2, "8000-9000"), allow(3, "61443")})
    found = admitted(rights, MODES[Mode.STRICT], tls_port=8443)
    assert found == {allow(1, "8443"), allow(2, "8443"), allow(2, "15008"), allow(3, "15008")}


def test_a_groups_right_opens_tunnels_to_the_group() -> None:
    right = Allow(0, "tcp", 8080, 8080, "acme/*/*")
    assert admitted(frozenset({right}), MODES[Mode.STRICT], tls_port=61443) == {replace(right, first=15008, last=15008)}


def test_on_the_way_back_to_none_the_same_gets_in_as_in_accept() -> None:
    rights = frozenset({allow(1, "1-65535"), allow(2, "15008"), allow(3, "61443"), allow(4, "53", "udp")})
    back, accept = (admitted(rights, mode, tls_port=61443) for mode in (BACK, MODES[Mode.ACCEPT]))
    assert back == accept


def test_without_mutual_tls_rights_are_what_they_are() -> None:
    rights = frozenset({allow(1, "1-65535"), allow(2, "15008")})
    assert admitted(rights, MODES[Mode.NONE], tls_port=61443) is rights


@pytest.fixture(params=[Mode.ACCEPT, Mode.STRICT])
def of_mode(request: pytest.FixtureRequest) -> Callable[[frozenset[Allow]], frozenset[Allow]]:
    return lambda rights: admitted(rights, MODES[request.param], tls_port=61443)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_is_admitted_is_worked_out_once_and_forgotten_with_the_rights(
    of_mode: Callable[[frozenset[Allow]], frozenset[Allow]], protocol: str
) -> None:
    rights = frozenset(allow(tag, "8080", protocol) for tag in range(1, 80))
    assert of_mode(rights) is of_mode(rights)
    gc.collect()  # what other tests have left
    before = len(admission._known)
    del rights
    gc.collect()
    assert len(admission._known) == before - 1


def test_of_a_cell_in_strict_only_the_chains_of_what_has_changed_are_made_anew() -> None:
    state = host_state([{"from": WEB, "to": "acme/shop/*", "tcp": "8080"}], Mode.STRICT)
    other = replace(state.workloads[FIRST + 1], allows=frozenset({allow(9, "80")}))
    before, after = (
        compile_tables(each).chains for each in (state, replace(state, workloads={**state.workloads, FIRST + 1: other}))
    )
    mine = {key: rules for key, rules in before.items() if key.chain.startswith("CELLNET-0a")}
    assert [str(key.chain) for key, rules in mine.items() if after[key] is not rules] == [container_chain(FIRST + 1)]
