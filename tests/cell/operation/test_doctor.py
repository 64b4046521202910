"""`cellnet doctor` where a cell runs, where none does, and where a host has many faults at once."""

import json
import os
from typing import cast

from lab.children import CELLNET
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, run_in_shell

TEST = "tests/cell/operation/test_doctor.py"
FAULTS = """
ip route add 10.255.9.0/24 dev eth0
nft 'add table inet other; add chain inet other f { type filter hook forward priority 0; policy drop; }'
mount --bind /dev/null /usr/sbin/dnsmasq
export http_proxy=http://192.0.2.1:3128
ulimit -n 512
"""


def examined(cell: CellUnderTest, *, faults: str = "", code: int) -> dict[str, dict[str, object]]:
    """By name each check, made in a mount namespace of its own, after `faults` were made there."""
    words = " ".join([*CELLNET, "--root", str(cell.lab.root), "doctor", "--json"])
    printed = cell.host.run("unshare", "-m", "bash", "-ec", f"{faults}\nset +e\n{words}\ntest $? = {code}")
    found = json.loads(printed)
    assert found["ok"] == (code == 0)
    return {each["name"]: each for each in found["checks"]}


def problems(check: dict[str, object]) -> list[dict[str, str]]:
    return cast("list[dict[str, str]]", check["problems"])


def whats(check: dict[str, object]) -> str:
    return " ".join(each["what"] for each in problems(check))


def test_a_host_that_is_well_is_well_with_an_agent_and_without_and_nothing_changes(cell: CellUnderTest) -> None:
    rules, (shown,) = cell.rules(), blocks("docs/doctor.md", test=TEST)
    command = f"nsenter --net={cell.lab.netns} {' '.join([*CELLNET, '--root', str(cell.lab.root)])}"
    said = run_in_shell(shown, folder=cell.lab.root, instead={"sudo cellnet": command}, env=os.environ)
    screen, _, answer = said.partition("{")
    assert "ok     kernel" in screen
    assert "wrong" not in screen
    found = json.loads("{" + answer)
    assert found["ok"]
    assert "process" in found["checks"][-1]["about"]
    assert cell.rules() == rules
    cell.kill("up")
    cell.kill("agent")
    assert examined(cell, code=0)["agent"]["about"] == "no agent runs here"


def test_every_fault_is_named_at_its_check_and_what_the_agent_says_too(cell: CellUnderTest) -> None:
    cell.policy_file("bad.yaml", "policies: [", sync=False)
    try:
        found = examined(cell, faults=FAULTS, code=1)
    finally:
        cell.host.run("ip", "route", "del", "10.255.9.0/24", "dev", "eth0")
        cell.host.run("nft", "delete", "table", "inet", "other")
    assert "route 10.255.9.0/24 on eth0" in whats(found["addresses"])
    assert "nft table inet other" in whats(found["firewall"])
    assert "dnsmasq is not installed" in whats(found["programs"])
    assert "apps.internal" in whats(found["proxies"])
    assert "bad.yaml" in whats(found["agent"])
    assert all(each["hint"] for name, check in found.items() if name != "agent" for each in problems(check))
    assert found["kernel"]["ok"]


def test_why_the_last_start_came_to_nothing_is_told(cell: CellUnderTest) -> None:
    config = cell.lab.root / "etc/cellnet/agent.yaml"
    good = config.read_text()
    cell.stop()
    config.write_text(good + "unheard_of: 1\n")
    assert "unheard_of" in cell.cellnet("doctor", code=2).err
    config.write_text(good)
