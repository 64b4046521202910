"""firewalld and ufw on the machine: they come, reload their rules and go; ours stay, and so does what ours let pass."""

import pytest

from tests.testlib.machine_cell import PORT, MachineCell
from tests.testlib.machines import Machine
from tests.testlib.patience import eventually

UFW = ("ufw --force enable", "ufw reload", "ufw --force disable")
FIREWALLD = ("firewall-cmd --reload", "firewall-cmd --reload")
FLUSHES = ("systemctl restart firewalld", "systemctl stop firewalld")


@pytest.fixture(scope="module")
def cell(machine: Machine) -> MachineCell:
    return MachineCell(machine)


def stays(cell: MachineCell, *deeds: str) -> None:
    caller = cell.caller()
    for each in deeds:
        cell.machine.run(*each.split())
        assert not caller.progress().failed, each
        assert not cell.connects("other", PORT), each
    cell.wait_well()
    caller.close()


def test_beside_ufw(cell: MachineCell) -> None:
    stays(cell, *UFW)


def test_beside_firewalld_which_trusts_the_overlay(cell: MachineCell) -> None:
    cell.machine.run("systemctl", "start", "firewalld")
    cell.machine.shell("firewall-cmd --permanent --zone=trusted --add-source=10.255.0.0/16; firewall-cmd --reload")
    cell.wait_well()
    stays(cell, *FIREWALLD)
    caller = cell.caller()
    for (
        each
    ) in FLUSHES:  # all of iptables, ours too: of calls in that moment one may be refused, or get through until it is cut
        cell.machine.run(*each.split())
        assert not caller.progress("stream", "tls stream").of("stream"), each
        eventually(lambda: not cell.connects("other", PORT))
    cell.wait_well()
    assert not [each for each in caller.so_far().failed if "stream" in each]
    caller.close()
