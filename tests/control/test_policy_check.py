"""`/v1/policies/check` where an end is outside: policies, the defaults of agent.yaml, and what is never outside."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from agent.policy.language.forms import ENFORCED, Form
from agent.policy.language.language import allowed
from tests.control.conftest import Curl
from tests.testlib.fakes.cell import FakeCell, outside_defaults, serving

pytestmark = pytest.mark.usefixtures("every_form")
INSIDE = ", which is a port inside of it: `cellnet ps` shows what leads where"
WEB, API = "acme/shop/web", "acme/shop/api"
FILE = "/etc/cellnet/agent.yaml"


@pytest.fixture
def open_cell(tmp_path: Path) -> Iterator[Curl]:
    """One whose agent.yaml lets everything out and in."""
    defaults = replace(outside_defaults(), egress_allowed=True, ingress_allowed=lambda: True, source=FILE)
    cell = FakeCell(defaults=defaults)
    with serving(cell, tmp_path / "open.sock") as path:
        yield Curl(path, cell)


def allow(curl: Curl, source: str, to: str, *ports: str) -> str:
    """As a policy of the store, under the name that is made up."""
    made = allowed(source, to, ports)
    curl.cell.rules.append(made)
    return made.name


def check(curl: Curl, source: str, to: str, port: str) -> dict[str, Any]:
    code, found = curl("GET", f"/v1/policies/check?from={source}&to={to}&port={port}")
    assert code == 200, found
    assert isinstance(found, dict)
    return found


def refusal(curl: Curl, source: str, to: str, port: str) -> str:
    code, found = curl("GET", f"/v1/policies/check?from={source}&to={to}&port={port}")
    assert code == 400, found
    return str(found["error"]["what"])


@pytest.fixture
def publishing_cell(tmp_path: Path) -> Iterator[Curl]:
    """One that publishes port 80 of web."""
    cell = FakeCell(defaults=replace(outside_defaults(), leads_to=lambda app, *port: (str(app), *port) == (WEB, "tcp", 80)))
    with serving(cell, tmp_path / "publishing.sock") as path:
        yield Curl(path, cell)


def test_what_may_come_in_is_told_where_no_published_port_leads_there(publishing_cell: Curl) -> None:
    curl = publishing_cell
    allow(curl, "203.0.113.0/24", WEB, "tcp/80-81", "udp/80", "icmp/echo")
    for port, told in (
        ("tcp/80", []),
        ("tcp/81", [f"nothing of {WEB} on this cell publishes tcp/81{INSIDE}"]),
        ("udp/80", [f"nothing of {WEB} on this cell publishes udp/80{INSIDE}"]),
        ("icmp/echo", ["a ping from outside is answered by the cell itself"]),
        ("tcp/82", []),
    ):
        found = check(curl, "203.0.113.9", WEB, port)
        assert (found["allowed"], found["notices"]) == (port != "tcp/82", told), port


def test_the_host_itself_is_let_in_by_no_policy_and_to_ports_that_are_not_published(tmp_path: Path) -> None:
    async def own() -> Collection[IPv4Address]:
        return {IPv4Address("203.0.113.9")}

    cell = FakeCell(defaults=replace(outside_defaults(), own=own, leads_to=lambda *_port: False))
    with serving(cell, tmp_path / "own.sock") as path:
        curl = Curl(path, cell)
        allow(curl, "198.51.100.0/24", WEB, "tcp/80")
        for address in ("203.0.113.9", "203.0.113.8"):
            found, back = check(curl, address, WEB, "tcp/80"), check(curl, WEB, address, "tcp/80")
            told = (found["by"], found["origin"], found["notices"])
            assert told == (("this host", "its own calls need no policy", []) if address.endswith("9") else (None, None, []))
            assert (found["allowed"], back["allowed"]) == (address.endswith("9"), False)


def test_a_network_allows_its_addresses_on_its_ports(curl: Curl) -> None:
    name = allow(curl, WEB, "192.0.2.0/24", "tcp/443", "udp/500-510", "icmp/echo")
    assert check(curl, WEB, "192.0.2.7", "tcp/443") == {
        "allowed": True, "by": name, "origin": "store", "until": None, "note": "", "reverse": None,
        "ports": ["tcp/443", "udp/500-510", "icmp/echo"], "notices": [], "mode": None, "not_on": [],
    }  # fmt: skip
    assert check(curl, WEB, "192.0.2.255", "icmp/echo")["allowed"]
    denied = check(curl, WEB, "192.0.2.7", "tcp/80")
    assert (denied["allowed"], denied["by"], denied["ports"]) == (False, None, ["tcp/443", "udp/500-510", "icmp/echo"])
    assert check(curl, WEB, "192.0.3.0", "tcp/443")["ports"] == []


def test_a_name_is_allowed_by_its_patterns(curl: Curl) -> None:
    exact, below = allow(curl, WEB, "api.example.com", "tcp/443"), allow(curl, WEB, "*.example.org", "tcp/443")
    for name, by in (
        ("api.example.com", exact),
        ("a.b.example.org", below),
        ("example.org", None),
        ("x.api.example.com", None),
    ):
        assert check(curl, WEB, name, "tcp/443")["by"] == by, name


def test_the_outside_is_allowed_to_call_by_its_address(curl: Curl) -> None:
    name = allow(curl, "0.0.0.0/0", "acme/shop/*", "tcp/8080")
    assert check(curl, "203.0.113.9", WEB, "tcp/8080")["by"] == name
    assert not check(curl, "203.0.113.9", "acme/blog/web", "tcp/8080")["allowed"]
    assert check(curl, WEB, "203.0.113.9", "tcp/8080")["reverse"] == {"by": name, "origin": "store"}


def test_the_reverse_of_a_call_from_outside_is_one_to_there(curl: Curl) -> None:
    name = allow(curl, WEB, "203.0.113.0/24", "tcp/8080")
    assert check(curl, "203.0.113.9", WEB, "tcp/8080") == {
        "allowed": False, "by": None, "origin": None, "until": None, "note": "",
        "reverse": {"by": name, "origin": "store"}, "ports": [], "notices": [], "mode": None, "not_on": [],
    }  # fmt: skip


def test_a_policy_that_may_mean_the_same_is_a_notice(curl: Curl) -> None:
    by_name, by_address = allow(curl, WEB, "api.example.com", "tcp/443"), allow(curl, WEB, "192.0.2.0/24", "tcp/8443")
    assert check(curl, WEB, "198.51.100.7", "tcp/443")["notices"] == [
        f"{by_name} allows api.example.com, which may be the same: ask by name"
    ]
    assert check(curl, WEB, "other.example.com", "tcp/8443")["notices"] == [
        f"{by_address} allows 192.0.2.0/24, which may be the same: ask by address"
    ]
    assert check(curl, WEB, "other.example.com", "tcp/80")["notices"] == []
    assert check(curl, WEB, "api.example.com", "tcp/443")["notices"] == []


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("10.255.1.3", "it is the containers' own network"),
        ("169.254.169.254", "it is the link between a container and its cell"),
        ("127.0.0.1", "it is each host's own loopback"),
        ("192.0.2.53", "it is a name server of this cell's"),
        ("web.shop.acme.cell.internal", "apps have such names: ask about the app, as org/space/app ('cellnet apps' has all)"),
    ],
)
def test_what_is_never_outside_is_allowed_by_nothing(open_cell: Curl, to: str, why: str) -> None:
    allow(open_cell, WEB, "0.0.0.0/0", "tcp/any")
    allow(open_cell, WEB, "*.internal", "tcp/any")
    found = check(open_cell, WEB, to, "tcp/53")
    assert (found["allowed"], found["ports"], found["notices"]) == (False, [], [f"{to} is never outside: {why}"])


def test_a_container_is_no_caller_of_the_outside(curl: Curl) -> None:
    allow(curl, "0.0.0.0/0", WEB, "tcp/any")
    found = check(curl, "10.255.1.3", WEB, "tcp/80")
    assert (found["allowed"], found["notices"]) == (False, ["10.255.1.3 is never outside: it is the containers' own network"])
    assert check(curl, "192.0.2.53", WEB, "tcp/80")["allowed"], "a name server may call"
    assert check(curl, "169.254.7.7", WEB, "tcp/80")["allowed"], "and a neighbour of the cell"


def test_the_defaults_of_agent_yaml_allow_what_no_policy_names(open_cell: Curl) -> None:
    for source, to, by in ((WEB, "192.0.2.7", "egress"), (WEB, "api.example.com", "egress"), ("192.0.2.7", WEB, "ingress")):
        found = check(open_cell, source, to, "tcp/443")
        assert (found["allowed"], found["by"], found["origin"]) == (True, f"{by}.default", FILE)
    assert not check(open_cell, WEB, API, "tcp/443")["allowed"], "nothing of that is between apps"
    name = allow(open_cell, WEB, "192.0.2.0/24", "tcp/443")
    assert check(open_cell, WEB, "192.0.2.7", "tcp/443")["by"] == name, "a policy says more than the default"


@pytest.mark.parametrize(
    ("source", "to", "port", "what"),
    [
        ("192.0.2.1", "192.0.2.2", "tcp/80", "both ends are outside"),
        ("192.0.2.1", "api.example.com", "tcp/80", "both ends are outside"),
        ("api.example.com", WEB, "tcp/80", "'api.example.com' is not an address"),
        (WEB, "192.0.2.0/24", "tcp/80", "192.0.2.0/24 is more than one address"),
        (WEB, "*.example.com", "tcp/80", "'*.example.com' is more than one name"),
        (WEB, "2001:db8::1", "tcp/80", "'2001:db8::1' is IPv6"),
        (WEB, "192.0.2.7", "icmp/8", "'icmp/8' cannot be allowed"),
        (WEB, "192.0.2.7", "tcp/1-2", "'tcp/1-2' is more than one port"),
        (WEB, "API.example.com", "tcp/1", "'API.example.com' has capital letters"),
    ],
)
def test_a_question_that_is_none_is_refused(curl: Curl, source: str, to: str, port: str, what: str) -> None:
    assert refusal(curl, source, to, port) == what


@pytest.mark.parametrize(
    ("form", "question"),
    [
        (Form.TO_CIDR, (WEB, "192.0.2.7", "tcp/80")),
        (Form.TO_HOST, (WEB, "api.example.com", "tcp/80")),
        (Form.FROM_CIDR, ("192.0.2.7", WEB, "tcp/80")),
        (Form.ECHO, (WEB, API, "icmp/echo")),
    ],
)
def test_a_question_about_what_nothing_enforces_is_refused(
    curl: Curl, monkeypatch: pytest.MonkeyPatch, form: Form, question: tuple[str, str, str]
) -> None:
    assert not check(curl, *question)["allowed"]
    monkeypatch.setitem(ENFORCED, form, False)
    assert refusal(curl, *question) == f"`{form.value}` is not supported yet"


def test_the_other_direction_is_not_told_where_nothing_enforces_it(curl: Curl, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(curl, "0.0.0.0/0", WEB, "tcp/80")
    assert check(curl, WEB, "192.0.2.7", "tcp/80")["reverse"]
    monkeypatch.setitem(ENFORCED, Form.FROM_CIDR, False)
    assert check(curl, WEB, "192.0.2.7", "tcp/80")["reverse"] is None
