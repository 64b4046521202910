"""Where policies, what the last turn made of the kernel, and the kernel itself disagree, `explain` says which of them."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from agent.insight.explain.kernel import KernelFacts, KernelSteps
from agent.insight.explain.way import AskedWay
from agent.loop.known_kernel import Applied
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.policy import Protocol
from dataplane.compile import compile_tables
from dataplane.firewall.backends.driver import FirewallTables
from dataplane.firewall.rights import container_chain
from dataplane.state import Allow, HostState, MutualTls, Workload
from dataplane.tables import ChainKey
from tests.testlib.samples import app

WEB, API = app("web"), app("api")
ADDRESS, OTHER = IPv4Address("10.255.1.3"), IPv4Address("10.255.1.9")
CHAIN = ChainKey(4, "filter", container_chain(ADDRESS))
ALLOW = Allow(7, "tcp", 9000, 9002)
IN_GROUP = Allow(0, "tcp", 9000, 9000, "acme/*/*")
MANY = frozenset(Allow(each, "udp", 53, 53) for each in range(100, 500))
STATE = HostState(IPv4Network("10.255.0.0/16"), IPv4Network("10.255.1.0/24"), 1450, {}, groups={"acme/*/*": frozenset({7})})


class Scene:
    """One cell where api runs, beside another container."""

    def __init__(self, *allows: Allow, mutual_tls: MutualTls = STATE.mutual_tls) -> None:
        api = Workload("api", ADDRESS, 8, Path("/pins/api"), allows=frozenset(allows))
        other = Workload("other", OTHER, 9, Path("/pins/other"))
        state = replace(STATE, workloads={ADDRESS: api, OTHER: other}, mutual_tls=mutual_tls)
        tables = compile_tables(state)
        self.applied = Applied(state, tables, tables)
        self.found = FirewallTables(dict(tables.chains), dict(tables.jumps))
        self.allowed, self.tags = True, {WEB: 7}

    async def told(self, port: int = 9000) -> str:
        async def read() -> FirewallTables:
            return self.found

        async def tags() -> Mapping[AppName, int]:
            return self.tags

        async def allowed(_way: AskedWay) -> bool:
            return self.allowed

        facts = KernelFacts(lambda: self.applied, read, tags, allowed)
        way = AskedWay(WEB, API, Protocol.TCP, port, f"tcp/{port}", (), (Endpoint("one", "api", API, 0, ADDRESS),))
        steps = await KernelSteps(facts, cell="one").steps(way)
        return "\n".join(f"{each.ok} {each.what}; {each.hint}" for each in steps)


@pytest.mark.parametrize("allows", [(ALLOW,), (IN_GROUP,), (ALLOW, *MANY), (replace(ALLOW, audit=True),)])
async def test_the_rule_that_lets_it_in_is_told_as_it_stands(allows: tuple[Allow, ...]) -> None:
    told = await Scene(*allows).told()
    assert told.startswith(f"True lets it into api: {CHAIN.chain}")
    assert "\n" not in told


async def test_into_tunnels_an_audit_lets_all_calls_of_a_caller() -> None:
    scene = Scene(replace(ALLOW, audit=True), mutual_tls=MutualTls(served=True, redirected=True, plain=False))
    told = (await scene.told()).splitlines()[0]
    assert told.startswith(f"True lets it into api: {CHAIN.chain}-audit")
    assert told.endswith("--dport 15008 -j ACCEPT; ")


async def test_in_tunnels_the_kernel_lets_the_tunnel_in_and_envoy_the_call() -> None:
    scene = Scene(ALLOW, mutual_tls=MutualTls(served=True, redirected=True, plain=False))
    told = (await scene.told()).splitlines()
    assert "--dport 15008" in told[0]
    assert told[1] == "True of calls in tunnels it lets acme/shop/web reach api on tcp/9000; "
    assert "None of calls in tunnels it does not let acme/shop/web reach api on tcp/9100" in await scene.told(9100)


async def test_what_a_policy_allows_and_no_turn_has_made_yet_is_told() -> None:
    assert "False the chain of api has no rule for tag 7 on tcp/9000: it is refused; a policy allows it" in await Scene().told()
    scene = Scene()
    scene.tags = {}
    assert "False acme/shop/web has no tag, so the kernel knows no packet of it; `cellnet sync`" in await scene.told()


async def test_what_no_policy_allows_any_more_and_the_kernel_still_does_is_told() -> None:
    scene = Scene(ALLOW)
    scene.allowed = False
    assert "None no policy allows it any more, and the kernel still does" in await scene.told()
    assert "None the chain of api has no rule for tag 7 on tcp/9100: it is refused; \n" in f"{await scene.told(9100)}\n"


async def test_rules_and_jumps_that_another_program_has_changed_are_told_but_for_other_containers_own() -> None:
    scene = Scene(ALLOW)
    chains = dict(scene.found.chains)
    scene.found = FirewallTables(chains | {ChainKey(4, "filter", container_chain(OTHER)): ()}, scene.found.jumps)
    assert "\n" not in await scene.told()
    scene.found = FirewallTables(chains | {CHAIN: ()}, scene.found.jumps)
    told = await scene.told()
    assert "False the rule that lets acme/shop/web reach api is not in the kernel" in told
    assert f"False rules of cellnet are not as it has made them: {CHAIN}" in told
    scene.found = FirewallTables(chains, {})
    assert "rules of cellnet are not as it has made them: the jump from ip" in await scene.told()


async def test_while_a_turn_goes_on_nothing_is_said_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.insight.explain.kernel.PAUSE", 0.0)
    scene = Scene(ALLOW)
    scene.applied = None  # type: ignore[assignment]
    assert await scene.told() == "None rules change just now; ask again"
