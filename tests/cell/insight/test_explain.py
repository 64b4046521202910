"""Each thing that stands in the way of a connection is told by the very sentence that says what to do about it."""

import json
import shlex
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import click
import pytest
from scapy.layers.inet import IP

from agent.cli.insight.explain import page
from agent.errors import Conflict, InvalidInput, Unavailable
from dataplane.firewall.rights import container_chain
from host.namespace import run_in
from tests.testlib.attacks.attacker import capture
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, commands
from tests.testlib.explained import explained
from tests.testlib.failures import terminate
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies, web_to_api

HERE = "policies.d/shop.yaml:2)"


@pytest.fixture(scope="module", params=["none", "strict"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cell_overrides(mode: str) -> Sequence[str]:
    return (f"tls.mtls={mode}", "tls.leaf_lifetime=8s")


@pytest.fixture
def two(cell: CellUnderTest) -> tuple[Instance, Instance]:
    """Web may reach api on 9000, where api listens."""
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 9000-9002"))
    api.listen(9000)
    return web, api


def test_what_works_is_told_as_such_and_does(cell: CellUnderTest, two: tuple[Instance, Instance], mode: str) -> None:
    web, api = two
    found = cell.cellnet("explain", WEB, API, "tcp/9000").out
    assert f"ok  policy: allowed by shop.yaml:2 ({cell.lab.policies}/shop.yaml:2)" in found
    assert f"ok  {WEB}: runs as {web.name} on cell-{cell.lab.number} ({web.address})" in found
    assert f"names: {API} is called api.shop.acme.cell.internal" in found
    port = {"none": "9000:9002", "strict": "15008"}[mode]
    assert f"ok  kernel: lets it into api: {container_chain(api.address)} -p tcp -m mark --mark" in found
    assert f"-m tcp --dport {port} -j ACCEPT" in found
    assert ("ok  certificate: that of api holds until" in found) == (mode == "strict")
    assert f"ok  listener: {api.name} serves tcp/9000" in found
    assert found.endswith("it works\n")
    assert web.connect(api, 9000) is Connected


SENTENCES = [
    (WEB, API, "tcp/9100", [f"no policy lets {WEB} reach {API} on tcp/9100", f"{WEB} may reach {API} on tcp/9000-9002"]),
    (WEB, API, "tcp/9100", ["on tcp/9100: it is refused"]),
    (WEB, API, "udp/9000", [f"no policy lets {WEB} reach {API} on udp/9000"]),
    (API, WEB, "tcp/9000", ["the other direction is allowed by shop.yaml:2", HERE]),
    ("acme/shop/wbe", API, "tcp/9000", ["did you mean acme/shop/web?"]),
    ("acme/shop/wbe", API, "tcp/9000", ["no instance of acme/shop/wbe is attached", "acme/shop/wbe has no tag"]),
    ("zeta/shop/web", API, "tcp/9000", [f"no policy lets zeta/shop/web reach {API}"]),
    (WEB, "acme/shop/job", "tcp/9000", ["no instance of acme/shop/job is attached on any cell"]),
    (WEB, API, "tcp/9001", ["nothing in api serves tcp/9001"]),
    (WEB, API, "tcp/9002", ["NO  listener: api serves tcp/9002 on 127.0.0.1 only", "have the app listen on 0.0.0.0"]),
    (WEB, API, "tcp/9106", ["old.yaml:1 allowed it until 2020-01-01T00:00:00Z"]),
    (WEB, "api.example.com", "tcp/443", ["ok  policy: allowed by out.yaml:1"]),
    (WEB, "api.example.com", "tcp/443", ["the resolver of this cell knows no address of api.example.com"]),
    ("203.0.113.9", WEB, "tcp/9000", ["ok  policy: allowed by in.yaml:1"]),
    ("203.0.113.9", WEB, "tcp/9000", [f"NO  published: no port of this host leads to tcp/9000 of {WEB}"]),
    (WEB, API, "tcp/9000", ["bad.yaml:1:11: ", "it has no earlier good version: nothing of it is in force"]),
]  # fmt: skip


def test_an_instance_that_calls_itself_needs_no_policy_and_two_of_an_app_do(cell: CellUnderTest) -> None:
    lone = "acme/shop/lone"
    first = cell.run_app(lone, name="lone-1")
    first.listen(9070)
    assert explained(cell, lone, lone, "tcp/9070").endswith("it works")
    assert first.connect(first, 9070) is Connected
    assert "nothing in lone-1 serves tcp/9071" in explained(cell, lone, lone, "tcp/9071")
    cell.run_app(lone, name="lone-2")
    assert explained(cell, lone, lone, "tcp/9070").endswith("it does not work")


def test_what_stands_in_the_way_is_told(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    api.keep(run_in(api.pin, lambda: socket.create_server(("127.0.0.1", 9002))))
    cell.policy_file("old.yaml", f"policies: [{{from: {WEB}, to: {API}, tcp: 9106, until: 2020-01-01T00:00Z}}]\n", sync=False)
    cell.policy_file("out.yaml", f"policies: [{{from: {WEB}, to: {{host: [api.example.com]}}, tcp: 443}}]\n", sync=False)
    cell.policy_file("in.yaml", f"policies: [{{from: {{cidr: 0.0.0.0/0}}, to: {WEB}, tcp: 9000}}]\n")
    cell.policy_file("bad.yaml", "policies: none\n", sync=False)
    eventually(lambda: "bad.yaml" in explained(cell, WEB, API, "tcp/9000"))
    for source, to, port, sentences in SENTENCES:
        found = explained(cell, source, to, port)
        for each in sentences:
            assert each in found, f"{each}\n\n{found}"
    assert f"{api.address} is {API}'s: ask about the app by its name" in explained(cell, WEB, str(api.address), "tcp/9000")
    by_name = explained(cell, WEB, "api.shop.acme.cell.internal", "tcp/9000")
    assert "apps have such names: ask about the app, as org/space/app" in by_name
    assert "asked it lately" not in by_name
    assert "`host_services` in agent.yaml opens ports" in explained(cell, WEB, str(cell.lab.address.ip), "tcp/22")
    web.connect(api, 9105)
    eventually(lambda: "refused here once, the last at" in explained(cell, WEB, API, "tcp/9105"))
    found = json.loads(cell.cellnet("explain", WEB, API, "tcp/9105", "--json", code=1).out)
    assert (found["works"], found["steps"][0]["ok"]) == (False, False)


def test_a_mistake_in_a_file_is_told_with_what_stays_in_force(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    cell.policy_file("shop.yaml", web_to_api("tcp: 9000-9002", "tpc: 9003"), sync=False)
    eventually(lambda: "stays in force (1 policy)" in explained(cell, WEB, API, "tcp/9000"))
    found = explained(cell, WEB, API, "tcp/9003")
    assert "shop.yaml:3:" in found
    assert "ok  policy: allowed by shop.yaml:2" in explained(cell, WEB, API, "tcp/9001")
    assert web.connect(api, 9000) is Connected


def test_an_interface_that_root_inside_has_changed_is_told(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    assert "interface" not in explained(cell, WEB, API, "tcp/9000")
    for end, change, words in (
        (0, "route del default", "eth0 in web has no default route"),
        (1, "address del {} dev eth0", "eth0 in api has no address"),
        (1, "link set eth0 down", "eth0 in api is down"),
    ):
        inside = two[end]

        def is_told(inside: Instance = inside, change: str = change, words: str = words) -> bool:
            """Before the agent has put it back, where there are tunnels."""
            inside.run("ip", *change.format(f"{inside.address}/32").split(), code=None)
            found = explained(cell, WEB, API, "tcp/9000")
            return f"NO  interface: {words}" in found and found.endswith("it does not work")

        eventually(is_told)


def test_rules_that_another_program_changes_are_told(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    _, api = two
    chain = container_chain(api.address)
    sentences = ("is not in the kernel", f"rules of cellnet are not as it has made them: iptables filter {chain}")

    def is_seen() -> bool:
        """Before the agent has put it back."""
        cell.host.run("iptables-nft", "-F", chain)
        found = explained(cell, WEB, API, "tcp/9000")
        return all(each in found for each in sentences) and found.endswith("it does not work")

    eventually(is_seen)
    eventually(lambda: explained(cell, WEB, API, "tcp/9000").endswith("it works"))


def test_a_plain_call_and_certificates_that_ended_are_told_where_tunnels_alone_pass(
    cell: CellUnderTest, two: tuple[Instance, Instance], mode: str
) -> None:
    web, api = two
    if mode == "none":
        assert web.connect(api, 9002) is Refused
        assert "refused here" not in explained(cell, WEB, API, "tcp/9002"), "nothing serves it, and the kernel let it in"
        return
    web.run("nft", "delete", "table", "ip", "cellnet-only-tunnels", code=None)
    web.run("nft", "delete", "table", "ip", "cellnet")
    plain = "strict (it came in plain text, where tunnels alone pass)"
    eventually(lambda: web.connect(api, 9000) and plain in explained(cell, WEB, API, "tcp/9000"))
    key = cell.lab.root / "var/lib/cellnet/ca/cell.key"
    kept = key.rename(cell.lab.root / "cell.key")
    terminate(cell)
    eventually(lambda: is_told(cell, "NO  certificate: the certificate of web ended at"))
    kept.rename(key)
    cell.wait_well()
    cell.kill("envoy")
    eventually(lambda: is_told(cell, "NO  Envoy: Envoy is not connected: no call passes"))


def tried(cell: CellUnderTest, source: str, to: str, port: str) -> str:
    return click.unstyle(page(cell.client.post("/v1/explain/try", {"from": source, "to": to, "port": port})))


def test_nothing_that_a_reader_asks_makes_a_packet(cell: CellUnderTest, two: tuple[Instance, Instance]) -> None:
    web, api = two
    with capture(cell.host, web.interface) as at_web, capture(cell.host, api.interface) as at_api:
        for source, to, port, _ in SENTENCES:
            explained(cell, source, to, port)
            cell.client.get("/v1/policies/check", **{"from": source, "to": to, "port": port})
        assert [each for each in (*at_web.pending(), *at_api.pending()) if IP in each] == []
        tried(cell, WEB, API, "udp/9100")
        assert [each for each in at_web.pending() if IP in each], "a try does"


def test_a_try_is_a_real_call_that_is_limited_and_marked(
    cell: CellUnderTest, two: tuple[Instance, Instance], mode: str
) -> None:
    _, api = two
    refuses = {"none": "refuses the call", "strict": "takes the call and closes it before any byte"}[mode]
    there = f"try: called from web, api ({api.address})"
    found = cell.cellnet("explain", WEB, API, "tcp/9000", "--try").out
    assert f"ok  {there} answers after" in found
    assert found.endswith("it works\n")
    if mode == "none":
        eventually(lambda: "; by `explain --try`" in cell.cellnet("flows", "--port", "tcp/9000").out)
    found = cell.cellnet("explain", WEB, API, "tcp/9100", "--try", code=1).out
    assert f"NO  {there} {refuses}" in found
    for port, words in (("udp/9000", "refuses the call"), ("icmp/echo", "refuses the call"), ("tcp/9001", refuses)):
        assert f"NO  {there} {words}" in tried(cell, WEB, API, port)
    for port in ("udp/9000", "tcp/9100"):
        eventually(partial(is_marked, cell, port))
        assert not is_tallied(cell, port), "what was tried no app has asked for"
    assert not is_tallied(cell, "icmp/echo")
    assert "refused: refused here" not in explained(cell, WEB, API, "tcp/9100")
    api.listen(9005)
    cell.policy_file("audit.yaml", policies(f"from: {WEB}, to: {API}, tcp: 9005, mode: audit"))
    tried(cell, WEB, API, "tcp/9005")
    eventually(lambda: "passed, and would be refused; by `explain --try`" in cell.cellnet("flows", "--denied").out)
    assert not is_tallied(cell, "tcp/9005")
    api.datagrams(53)
    cell.policy_file("more.yaml", web_to_api("udp: 53", "icmp: echo"))
    assert f"ok  {there} answers after" in tried(cell, WEB, API, "icmp/echo")
    assert f"--  {there} was sent an empty datagram, and nothing refused it" in tried(cell, WEB, API, "udp/53")
    with pytest.raises(Conflict, match="no instance of acme/shop/job runs on this cell"):
        tried(cell, "acme/shop/job", API, "tcp/9000")
    with pytest.raises(InvalidInput, match="nothing can be tried from outside"):
        tried(cell, "203.0.113.9", API, "tcp/9000")
    with suppress(Conflict):
        for _ in range(30):
            tried(cell, WEB, API, "icmp/echo")
    with pytest.raises(Conflict, match="30 calls were tried within a minute"):
        tried(cell, WEB, API, "icmp/echo")
    assert cell.log.count('"event": "tried"') >= 7


def is_marked(cell: CellUnderTest, port: str) -> bool:
    return "policy by `explain --try`" in cell.cellnet("flows", "--denied", "--port", port).out


def is_tallied(cell: CellUnderTest, port: str) -> bool:
    """Whether `policy suggest` would write a policy for it."""
    return bool(list(cell.client.get("/v1/denied/pairs", app=WEB, to=API, port=port).at("pairs").each()))


def is_told(cell: CellUnderTest, sentence: str) -> bool:
    """By an agent that may be on its way up."""
    with suppress(Unavailable):
        return sentence in explained(cell, WEB, API, "tcp/9000")
    return False


@pytest.mark.usefixtures("two")
def test_the_page_shows_commands_that_work(cell: CellUnderTest) -> None:
    (block,) = blocks("docs/policies.md", test="tests/cell/insight/test_explain.py")
    for command in commands(block):
        cell.cellnet(*shlex.split(command)[1:], code=None)


def test_what_no_policy_allows_is_told_and_suggested_with_the_port_that_was_called(cell: CellUnderTest) -> None:
    """In a tunnel too, whose own port no policy can open."""
    other, api = cell.run_app(OTHER), cell.run_app(API)
    other.connect(api, 9100)
    eventually(lambda: "refused here once" in explained(cell, OTHER, API, "tcp/9100"))
    eventually(lambda: f"{{from: {OTHER}, to: {API}, tcp: 9100, " in cell.cellnet("policy", "suggest", "--app", OTHER).out)
    kept = list(cell.client.get("/v1/denied", app=OTHER).at("denied").each())
    assert [each.text("port") for each in kept] == ["9100"]
