"""agent.yaml that changes under a running agent: what is taken up at once, what is not, and a file with a mistake."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cell import Part
from lab.children import CELLNET
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import echoed, is_ended
from tests.testlib.node import Connected, Refused, connect_at_once
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB
from tests.testlib.status import problems, reports

PUBLISHED, SERVICE = 7000, 9001
LIVE = """
ingress: {default: allow}
host_services: [{protocol: tcp, port: 9001}]
service_env_prefixes: [WARP_IST_]
tls: {leaf_lifetime: 90m}
dns: {upstreams: [192.0.2.53]}
log: {level: error}
"""


class AgentYaml:
    """The cell's file. `text` is what it was at first."""

    def __init__(self, cell: CellUnderTest) -> None:
        self.cell, self.path = cell, cell.lab.policies.parent / "agent.yaml"
        self.text = self.path.read_text()

    def write(self, more: str) -> None:
        self.path.write_text(self.text + more)

    def reload(self) -> str:
        return self.cell.cellnet("config", "reload").out

    def in_force(self, key: str) -> str:
        keys = self.cell.client.get("/v1/config").at("keys").each()
        return next(each.text("value") for each in keys if each.text("key") == key)


@pytest.fixture
def agent_yaml(cell: CellUnderTest) -> Iterator[AgentYaml]:
    made = AgentYaml(cell)
    yield made
    made.write("")
    made.reload()


def test_what_can_be_taken_live_is_and_what_it_no_longer_lets_through_is_cut(
    cell: CellUnderTest, agent_yaml: AgentYaml
) -> None:
    cell.run_app(WEB, server=True, port=8080, options=[f"--publish={PUBLISHED}:8080"])
    api = cell.run_app(API)
    cell.allow(API, WEB, "tcp/8080")
    cell.host.listen(SERVICE)
    assert cell.outside.connect(cell.host, PUBLISHED) is Refused
    assert connect_at_once(api, cell.host, SERVICE) is Refused
    agent_yaml.write(LIVE)
    differing = problems(cell)["config"]
    assert "ingress.default (allow there, deny here)" in differing
    assert "cellnet config reload takes it up" in differing
    pid = cell.agent_pid
    assert "ingress.default is allow\n" in agent_yaml.reload()
    assert cell.agent_pid == pid
    cell.wait_well()
    stream = cell.outside.dial(cell.host, PUBLISHED)
    assert echoed(stream)
    assert connect_at_once(api, cell.host, SERVICE) is Connected
    environment = cell.lab.root / "run/cellnet/env/api"
    eventually(lambda: "WARP_IST_web=web.shop.acme.cell.internal" in environment.read_text())
    eventually(lambda: cell.status().at("dns").texts("upstreams") == ("192.0.2.53#53",))
    quiet = len(cell.log)
    short = cell.run_app("acme/shop/short")
    asked = ("openssl", "x509", "-in", short.environment["CF_INSTANCE_CERT"], "-noout", "-checkend")
    short.exec(*asked, str(80 * 60))
    short.exec(*asked, str(100 * 60), code=1)
    assert '"level": "info"' not in cell.log[quiet:]
    assert "config" not in problems(cell)
    agent_yaml.write("")
    agent_yaml.reload()
    assert is_ended(stream)
    assert cell.outside.connect(cell.host, PUBLISHED) is Refused
    assert connect_at_once(api, cell.host, SERVICE) is Refused


def test_a_signal_reloads_too_and_the_rest_is_named_as_needing_a_restart(
    cell: CellUnderTest, agent_yaml: AgentYaml, tmp_path: Path
) -> None:
    agent_yaml.write("service_env_prefixes: [A_]\negress: {default: allow}\n")
    up = cell.lab.part(Part.UP)
    assert up is not None
    os.kill(up.pid, signal.SIGHUP)
    eventually(lambda: agent_yaml.in_force("service_env_prefixes") == "[A_]")
    assert agent_yaml.in_force("egress.default") == "deny"
    assert reports(cell, "config", "differs from what runs: egress.default (allow there, deny here)")
    assert "restart the agent to take up egress.default" in problems(cell)["config"]
    assert agent_yaml.reload() == "egress.default is still deny: it needs a restart of the agent\n"
    checked = cell.cellnet("config", "check").out
    assert "egress.default: allow instead of deny; needs a restart of the agent\n" in checked
    (other := tmp_path / "other.yaml").write_text("overlay: {network: 10.99.0.0/16}\n")
    checked = cell.cellnet("config", "check", str(other)).out
    assert "10.99.0.0/16 instead of 10.255.0.0/16; needs a cell without containers" in checked


def test_a_bad_file_changes_nothing_and_all_its_mistakes_are_shown_by_place(cell: CellUnderTest, agent_yaml: AgentYaml) -> None:
    agent_yaml.write("# paths: {}, as in the package's file\nservice_env_prefixes: [B_]\ntls: {prot: 1, port: x}\n")
    line = len(agent_yaml.path.read_text().splitlines())
    os.kill(cell.agent_pid, signal.SIGHUP)
    assert reports(cell, "config", "has mistakes, and nothing of it is taken")
    assert "has mistakes, and nothing of it is taken" in cell.cellnet("status", code=1).out
    assert agent_yaml.in_force("service_env_prefixes") == "[]"
    for done in (cell.cellnet("config", "check", code=1), cell.cellnet("config", "reload", code=2)):
        for place in (f"agent.yaml:{line}:7: unknown key 'prot'", f"agent.yaml:{line}:22: expected a port"):
            assert place in done.err
    other = cell.lab.root / "other.yaml"
    other.write_text("log: {level: error}\n")
    assert "log.level: error instead of info; a reload takes it\n" in cell.cellnet("config", "check", str(other)).out


def test_what_is_in_force_is_shown_with_where_it_was_written(cell: CellUnderTest, agent_yaml: AgentYaml) -> None:
    agent_yaml.write("service_env_prefixes: [C_]\n")
    line = len(agent_yaml.path.read_text().splitlines())
    agent_yaml.reload()
    shown = cell.cellnet("config", "show", "--origin").out.splitlines()
    assert f"service_env_prefixes: [C_]  # {agent_yaml.path}:{line}" in shown
    assert "  port: 61443  # default" in shown
    root = cell.lab.root
    assert f"  run: {root}/run/cellnet  # default, below {root} of --root or CELLNET_ROOT" in shown
    elsewhere = cell.lab.root / "elsewhere"
    elsewhere.mkdir()
    offline = cell.lab.run(*CELLNET, "--root", str(elsewhere), "--config", str(agent_yaml.path), "config", "show", "--origin")
    assert "no agent answers: this is what one would run by" in offline.err
    assert f"service_env_prefixes: [C_]  # {agent_yaml.path}:{line}" in offline.out.splitlines()
    assert f"# {agent_yaml.path} (named by --config or CELLNET_CONFIG)" in offline.out.splitlines()
