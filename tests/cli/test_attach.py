"""`cellnet attach` against an agent on memory: what it asks for, and what it prints."""

import json
import os
from pathlib import Path

import pytest

from agent.cli.containers.attachments import as_the_agent_finds_it
from agent.model.key_owner import KeyOwner
from tests.cli.conftest import Cli, Done
from tests.testlib.fakes.cell import FakeCell


@pytest.mark.usefixtures("agent")
def test_attach_says_whose_the_key_is_and_prints_address_and_environment(cellnet: Cli, cell: FakeCell) -> None:
    asked = ("attach", "--app", "acme/shop/api", "--netns", "/run/netns/x", "--route", "api.apps.internal")
    assert cellnet(*asked) == Done(
        0,
        "api has 10.255.1.2\n  CF_INSTANCE_INTERNAL_IP=10.255.1.2\n  CF_INSTANCE_INDEX=0\n"
        "  DNS 169.254.0.2, search shop.acme.cell.internal acme.cell.internal, as in /run/cellnet/resolv/api\n",
        "",
    )
    assert cellnet(*asked, "--env").out == "CF_INSTANCE_INTERNAL_IP=10.255.1.3\nCF_INSTANCE_INDEX=0\n"
    assert json.loads(cellnet(*asked, "--json").out)["routes"] == ["api.apps.internal"]
    cellnet(*asked, "--key-owner", "1000")
    cellnet(*asked, "--key-owner", "1000:100")
    owners = [cell.key_owners[name] for name in ("api", "api-3", "api-4")]
    assert owners == [KeyOwner(0), KeyOwner(1000), KeyOwner(1000, 100)]
    assert cellnet("detach", "api-1") == Done(0, "", "")
    assert cellnet("detach", "api-1") == Done(0, "there was no 'api-1'\n", "")


@pytest.mark.usefixtures("agent")
def test_attach_asks_for_services_and_says_which_have_no_variable(cellnet: Cli, cell: FakeCell) -> None:
    cell.warnings = ("the service variable 'x' is that of another",)
    asked = ("attach", "--app", "acme/shop/api", "--netns", "/run/netns/x", "--env")
    done = cellnet(*asked, "--service", "Db", "--service", "zeta/data/lake")
    assert done.err == "warning: the service variable 'x' is that of another\n"
    assert done.out == "CF_INSTANCE_INTERNAL_IP=10.255.1.2\nCF_INSTANCE_INDEX=0\n"
    assert list(map(str, cell.services["api"])) == ["acme/shop/db", "zeta/data/lake"]


@pytest.mark.usefixtures("agent")
def test_attach_asks_for_published_ports_and_says_where_nothing_listens(cellnet: Cli) -> None:
    asked = ("attach", "--app", "acme/shop/api", "--netns", "/run/netns/x")
    done = cellnet(*asked, "--publish", "8000-8010:9000-9010/udp", "--publish", "192.0.2.7:443:tls")
    assert (
        "  published 8000-8010:9000-9010/udp (nothing listens)\n  published 192.0.2.7:443:tls (nothing listens)\n" in done.out
    )
    first, second = json.loads(cellnet("ps", "--json").out)[0]["publish"]
    assert first == {
        "port": 8000, "last": 8010, "address": "any", "to": 9000, "protocol": "udp", "tls": False, "served": False,
    }  # fmt: skip
    assert (second["address"], second["to"], second["tls"]) == ("192.0.2.7", 61443, True)
    assert cellnet("ps").out.splitlines()[0].split()[-1] == "PUBLISHED"
    wrong = cellnet(*asked, "--publish", "8080")
    assert (wrong.code, "'8080' is not a port to publish" in wrong.err) == (2, True)


def test_a_path_is_sent_as_the_caller_sees_it_and_not_as_the_agent_would(tmp_path: Path, monkeypatch: object) -> None:
    assert as_the_agent_finds_it("/proc/self/ns/net") == f"/proc/{os.getpid()}/ns/net"
    assert as_the_agent_finds_it("/run/netns/web") == "/run/netns/web"
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real").mkdir()
    assert as_the_agent_finds_it(str(tmp_path / "link/ns")) == str(tmp_path / "real/ns")
    assert as_the_agent_finds_it("web") == f"{os.getcwd()}/web"
