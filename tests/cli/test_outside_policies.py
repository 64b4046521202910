"""`policy allow|list|check|delete|validate` where an end is outside, and for an echo."""

from pathlib import Path

import pytest

from agent.cli.app_names import full_party, full_pattern
from agent.errors import InvalidInput
from agent.policy.language.language import parse
from tests.cli.conftest import Cli, Done
from tests.testlib.fakes.cell import FakeCell

pytestmark = pytest.mark.usefixtures("every_form", "agent")
WEB = "acme/shop/web"


@pytest.mark.parametrize(
    "words",
    [
        (WEB, "192.0.2.0/24", "tcp/443"),
        (WEB, "192.0.2.7", "udp/53", "tcp/53"),
        (WEB, "api.example.com", "tcp/443"),
        ("acme/shop/*", "*.example.org", "tcp/443", "icmp/echo"),
        ("0.0.0.0/0", WEB, "tcp/8080-8090"),
        (WEB, "acme/shop/api", "icmp/echo"),
    ],
)
def test_what_was_allowed_is_deleted_with_the_same_words(cellnet: Cli, cell: FakeCell, words: tuple[str, ...]) -> None:
    assert cellnet("policy", "allow", *words, "--name", "mine") == Done(0, "allowed as mine\n", "")
    (made,) = cell.rules
    assert made.name == "mine"
    assert cellnet("policy", "delete", *words[:2], "tcp/1").code == 1, "other ports"
    assert cellnet("policy", "delete", *words) == Done(0, "deleted mine\n", "")
    assert cell.rules == []


def test_the_list_shows_networks_names_and_echoes(cellnet: Cli, cell: FakeCell) -> None:
    cell.rules += parse(
        b"policies:\n"
        b"- {name: out, from: [acme/shop/web, acme/*/*], to: {cidr: [192.0.2.0/24, 1.1.1.1], except: 192.0.2.9}, tcp: 443}\n"
        b"- {name: names, from: acme/shop/web, to: {host: [api.example.com, '*.example.org']}, tcp: 443, icmp: echo}\n"
        b"- {name: in, from: {cidr: 0.0.0.0/0}, to: acme/shop/web, tcp: [80, 443]}\n",
        source="/p.yaml",
    )
    assert cellnet("policy", "list").out == (
        "NAME   FROM                     TO                                            PORTS               ORIGIN\n"
        "out    acme/shop/web, acme/*/*  192.0.2.0/24, 1.1.1.1/32 except 192.0.2.9/32  tcp/443             /p.yaml:2\n"
        "names  acme/shop/web            api.example.com, *.example.org                tcp/443, icmp/echo  /p.yaml:3\n"
        "in     0.0.0.0/0                acme/shop/web                                 tcp/80, tcp/443     /p.yaml:4\n"
    )


def test_a_check_says_by_what_and_why_not(cellnet: Cli) -> None:
    cellnet("policy", "allow", WEB, "192.0.2.0/24", "tcp/443", "--name", "out")
    cellnet("policy", "allow", "203.0.113.0/24", WEB, "tcp/8080", "--name", "in")
    assert cellnet("policy", "check", WEB, "192.0.2.7", "tcp/443") == Done(0, "allowed by out (store)\n", "")
    assert cellnet("policy", "check", "203.0.113.9", WEB, "tcp/8080") == Done(0, "allowed by in (store)\n", "")
    assert cellnet("policy", "check", WEB, "192.0.2.7", "tcp/80") == Done(
        1, f"denied\n{WEB} may reach 192.0.2.7 on tcp/443\n", ""
    )
    assert cellnet("policy", "check", WEB, "api.example.com", "tcp/443") == Done(
        1, "denied\n", "warning: out allows 192.0.2.0/24, which may be the same: ask by address\n"
    )
    assert cellnet("policy", "check", WEB, "203.0.113.9", "tcp/8080") == Done(
        1, f"denied\nthe other direction, 203.0.113.9 to {WEB}, is allowed by in (store)\n", ""
    )
    assert cellnet("policy", "check", WEB, "10.255.1.3", "tcp/443") == Done(
        1, "denied\n", "warning: 10.255.1.3 is never outside: it is the containers' own network\n"
    )


def test_a_wrong_end_is_wrong_usage(cellnet: Cli) -> None:
    done = cellnet("policy", "allow", WEB, "192.0.2.7/24", "tcp/443")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: '192.0.2.7/24' is an address within 192.0.2.0/24; hint: did you mean the network")
    assert cellnet("policy", "check", "192.0.2.1", "192.0.2.2", "tcp/443").code == 2


def test_a_short_name_is_an_app_and_what_has_a_dot_is_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLNET_SPACE", "acme/shop")
    for complete in (full_party, full_pattern):
        assert [complete(each) for each in ("web", "Acme/Shop/Web")] == ["acme/shop/web", "acme/shop/web"]
        for word in ("192.0.2.7", "api.example.com", "2001:db8::1", "https://a.b/"):
            assert complete(word) == word
        assert complete("API.Example.com") == "api.example.com"
    assert [full_pattern(each) for each in ("*", "same-space", "192.0.2.0/24", "*.example.org")] == [
        "acme/shop/*", "same-space", "192.0.2.0/24", "*.example.org",
    ]  # fmt: skip
    with pytest.raises(InvalidInput):
        full_party("*")


def test_a_file_is_judged_by_this_hosts_configuration(cellnet: Cli, tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("policies: [{from: acme/shop/web, to: {cidr: 10.7.1.0/24}, tcp: 443}]\n")
    assert cellnet("policy", "validate", str(file)) == Done(0, f"{file}: 1 policy\n", "")
    (tmp_path / "etc/cellnet").mkdir(parents=True)
    (tmp_path / "etc/cellnet/agent.yaml").write_text("overlay: {network: 10.7.0.0/16}\n")
    done = cellnet("policy", "validate", str(file))
    assert done.code == 1
    assert "10.7.1.0/24 is never outside: it is the containers' own network" in done.err
