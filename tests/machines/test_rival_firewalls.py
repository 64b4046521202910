"""firewalld and ufw on the machine: they come, reload their rules and go; ours stay, and so does what ours let pass."""

import pytest

from tests.testlib.machines.cell import PORT, MachineCell
from tests.testlib.machines.machine import Machine
from tests.testlib.patience import eventually

UFW = ("ufw --force enable", "ufw reload", "ufw --force disable")
FIREWALLD = ("firewall-cmd --reload", "systemctl restart firewalld", "systemctl stop firewalld")


@pytest.fixture(scope="module")
def cell(machine: Machine) -> MachineCell:
    return MachineCell(machine)


def test_ufw_touches_neither_our_rules_nor_a_connection(cell: MachineCell) -> None:
    caller = cell.caller()
    for each in UFW:
        cell.machine.run(*each.split())
        assert not caller.progress().failed, each
        assert not cell.connects("other", PORT), each
    cell.wait_well()
    caller.close()


def test_rules_that_firewalld_flushes_are_back_at_once_and_streams_go_on(cell: MachineCell) -> None:
    cell.machine.run("systemctl", "start", "firewalld")
    cell.machine.shell("firewall-cmd --permanent --zone=trusted --add-source=10.255.0.0/16; firewall-cmd --reload")
    cell.wait_well()
    caller = cell.caller()
    for each in FIREWALLD:  # of calls in that moment one may be refused, or get through until it is cut
        cell.machine.run(*each.split())
        caller.progress()
        eventually(lambda: not cell.connects("other", PORT))
        eventually(lambda: cell.connects("web", PORT))
    cell.wait_well()
    assert not [each for each in caller.so_far().failed if "stream" in each]
    caller.close()
