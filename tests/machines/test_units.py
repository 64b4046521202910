"""The units of systemd/: confined, started again by themselves, and what is done to one of them ends no connection."""

import json
import re

import pytest

from tests.testlib.documents import ROOT
from tests.testlib.machines.cell import PORT, TLS_PORT, UNITS, MachineCell
from tests.testlib.machines.machine import Machine
from tests.testlib.patience import eventually

AGENT, ENVOY, DNS, HOP = UNITS
EXPOSURE = {AGENT: 5.7, ENVOY: 3.1, DNS: 2.5, HOP: 2.6}
"""As `systemd-analyze security` has it, from 0 to 10; what is left has its reason in systemd/README.md."""
PLAIN = ("call", "stream")


TIMER = re.compile(r"^# (/etc/systemd/system/\S+)\n(.*?)(?=^# |^```)", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def cell(machine: Machine) -> MachineCell:
    return MachineCell(machine)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_no_more_exposed_than_is_written(cell: MachineCell, unit: str) -> None:
    last = cell.machine.run("systemd-analyze", "security", "--no-pager", unit).stdout.strip().splitlines()[-1]
    found = re.search(r"level for \S+: (\d+\.\d)", last)
    assert found, last
    assert float(found[1]) <= EXPOSURE[unit]


def test_what_is_allowed_connects_and_nothing_else(cell: MachineCell) -> None:
    assert [cell.connects(name, port) for name in ("web", "other") for port in (PORT, TLS_PORT)] == [True, True, False, False]


@pytest.mark.parametrize("unit", [AGENT, DNS, HOP])
def test_agent_and_dns_come_and_go_and_no_connection_is_lost(cell: MachineCell, unit: str) -> None:
    caller = cell.caller()
    for deed in ("restart", "kill --signal=SIGKILL", "stop", "start"):
        before = cell.pid(unit)
        cell.machine.run("systemctl", *deed.split(), unit)
        assert not caller.progress().failed, deed
        eventually(lambda: (cell.pid(unit) == 0) if deed == "stop" else cell.pid(unit) not in (0, before))
    cell.wait_well()
    assert not caller.progress().failed
    caller.close()
    assert cell.attachments().keys() == {"web", "api", "other"}


@pytest.mark.parametrize("deed", ["restart", "kill --signal=SIGKILL"])
def test_envoy_that_is_started_anew_ends_what_goes_through_it_and_nothing_else(cell: MachineCell, deed: str) -> None:
    caller = cell.caller()
    cell.machine.run("systemctl", *deed.split(), ENVOY)
    assert not caller.progress(*PLAIN).of("call")
    assert not caller.so_far().of("stream")
    assert caller.progress("tls stream").of("tls stream")
    caller.close()
    eventually(lambda: cell.connects("web", TLS_PORT))
    cell.wait_well()


def test_pins_outlive_an_agent_that_has_mounts_of_its_own(cell: MachineCell) -> None:
    cell.write(f"/run/systemd/system/{AGENT}.d/own.conf", "[Service]\nPrivateTmp=yes\nProtectSystem=full\n")
    cell.machine.shell(f"systemctl daemon-reload; systemctl restart {AGENT}", timeout=60)
    cell.wait_well()
    assert cell.has_own_mounts(AGENT)
    cell.machine.start("cellnet", "run", "--app", "acme/shop/web", "--name", "more", "--", "sleep", "infinity")
    eventually(lambda: "more" in cell.attachments())
    cell.machine.shell(f"systemctl restart {AGENT}; systemctl restart {ENVOY}", timeout=60)
    cell.wait_well()
    assert cell.attachments().keys() == {"web", "api", "other", "more"}
    assert all(cell.connects(name, port) for name in ("web", "more") for port in (PORT, TLS_PORT))
    cell.machine.shell(f"rm -r /run/systemd/system/{AGENT}.d; systemctl daemon-reload; systemctl restart {AGENT}")
    cell.wait_well()


def test_a_reload_of_the_agent_fails_where_its_file_has_a_mistake(cell: MachineCell) -> None:
    before = cell.pid(AGENT)
    cell.write("/etc/cellnet/agent.yaml", "log: {level: loud}\n")
    assert cell.machine.run("systemctl", "reload", AGENT, check=False).returncode == 1
    assert cell.pid(AGENT) == before
    cell.write("/etc/cellnet/agent.yaml", "")
    cell.machine.run("systemctl", "reload", AGENT)
    cell.wait_well()


def test_the_target_takes_all_units_along(cell: MachineCell) -> None:
    cell.machine.run("systemctl", "stop", "cellnet.target")
    eventually(lambda: {cell.pid(unit) for unit in UNITS} == {0})
    cell.machine.run("systemctl", "start", "cellnet.target")
    cell.wait_well()
    assert cell.connects("web", TLS_PORT)


def test_a_stop_as_the_page_has_it_waits_for_the_end_of_all_units(cell: MachineCell) -> None:
    stop = "systemctl stop cellnet.target 'cellnet-*'"
    assert f"`{stop}` waits for their end" in (ROOT / "systemd/README.md").read_text()
    cell.machine.shell(stop)
    assert {cell.pid(unit) for unit in UNITS} == {0}
    cell.machine.run("systemctl", "start", "cellnet.target")
    cell.wait_well()


def test_an_agent_that_stands_still_is_started_anew(cell: MachineCell) -> None:
    cell.write(f"/run/systemd/system/{AGENT}.d/soon.conf", "[Service]\nWatchdogSec=2\n")
    cell.machine.shell(f"systemctl daemon-reload; systemctl restart {AGENT}", timeout=60)
    cell.wait_well()
    stuck = cell.pid(AGENT)
    cell.machine.run("sleep", "3")  # one that turns is left alone
    assert cell.pid(AGENT) == stuck
    cell.machine.run("kill", "-STOP", str(stuck))
    eventually(lambda: cell.pid(AGENT) not in (0, stuck))
    cell.wait_well()
    assert cell.connects("web", PORT)
    cell.machine.shell(f"rm -r /run/systemd/system/{AGENT}.d; systemctl daemon-reload")


def test_a_reload_takes_up_what_needs_no_restart_and_ends_nothing(cell: MachineCell) -> None:
    caller, before = cell.caller(), cell.pid(AGENT)
    cell.write("/etc/cellnet/agent.yaml", "service_env_prefixes: [A_]\n")
    cell.machine.run("systemctl", "reload", AGENT)
    eventually(lambda: "service_env_prefixes: [A_]" in cell.machine.run("cellnet", "config", "show").stdout)
    assert cell.pid(AGENT) == before
    assert not caller.progress().failed
    caller.close()


def test_a_teardown_stops_the_units_and_leaves_nothing_on_the_host(cell: MachineCell) -> None:
    forwarding = json.loads(cell.machine.path("/run/cellnet/host-before").read_text())["settings"]["net/ipv4/ip_forward"]
    cell.machine.run("cellnet", "teardown", "--force", timeout=60)
    assert {cell.pid(unit) for unit in UNITS} == {0}
    look = (
        "ls -d /run/cellnet /sys/class/net/c* 2>/dev/null; iptables-save; ipset list -name; cat /proc/sys/net/ipv4/ip_forward"
    )
    assert cell.machine.run("sh", "-c", look).stdout == f"{forwarding}\n"
    cell.machine.run("systemctl", "start", "cellnet.target")
    cell.wait_well()


def test_the_timer_of_the_page_about_monitoring_writes_the_metrics_again_and_again(cell: MachineCell) -> None:
    machine, written = cell.machine, cell.machine.path("/var/lib/node_exporter/cellnet.prom")
    written.parent.mkdir()
    for place, unit in TIMER.findall((ROOT / "docs/monitor.md").read_text()):
        cell.write(place, unit.replace("=15s", "=1s"))
    machine.shell("systemctl daemon-reload; systemctl start cellnet-metrics.timer")
    eventually(lambda: written.exists() and "\ncellnet_up 1.0\n" in written.read_text())
    first = written.stat().st_mtime_ns
    eventually(lambda: written.stat().st_mtime_ns != first)
    machine.run("systemctl", "stop", AGENT)
    eventually(lambda: "\ncellnet_up 0.0\n" in written.read_text())
    machine.shell(f"systemctl start {AGENT}; systemctl stop cellnet-metrics.timer")
