"""`systemctl reload cellnet-envoy`: a second Envoy takes over; with mutual TLS all calls and streams go through one of them."""

from tests.testlib.machines.cell import MachineCell
from tests.testlib.machines.machine import Machine
from tests.testlib.patience import eventually

ENVOY = "cellnet-envoy.service"


def test_a_second_envoy_takes_over_and_no_call_is_dropped(machine: Machine) -> None:
    cell = MachineCell(machine, config="tls: {mtls: strict}\n")
    callers, first = [cell.caller() for _ in range(4)], cell.pid(ENVOY)
    cell.machine.run("systemctl", "reload", ENVOY, timeout=90)
    second = cell.pid(ENVOY)
    assert second not in (0, first)
    assert [each.failed for each in (caller.progress() for caller in callers)] == [[]] * 4
    cell.wait_well()
    assert cell.machine.run("pgrep", "-x", "envoy").stdout.split() == [str(first), str(second)]
    for each in callers:
        each.close()
    cell.machine.run("systemctl", "kill", "--signal=SIGKILL", "--kill-who=main", ENVOY)
    eventually(lambda: cell.pid(ENVOY) not in (0, second))
    cell.wait_well()
