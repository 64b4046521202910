"""An engine's containers and a unit of systemd on a machine, which loses power.

The plugin is called as an engine calls it, which after a power loss adds the ids that it had without a word about their end.
"""

import json

import pytest

from tests.testlib.machines.cell import MachineCell
from tests.testlib.machines.machine import Machine
from tests.testlib.patience import eventually

CONFLIST = {"cniVersion": "1.0.0", "name": "cellnet", "type": "cellnet-cni"}
UNIT = """[Service]
NetworkNamespacePath=/run/cellnet/held/unit
EnvironmentFile=/run/cellnet/env/unit
BindReadOnlyPaths=/run/cellnet/resolv/unit:/etc/resolv.conf
DynamicUser=yes
ExecStart=/usr/bin/python3 -m http.server 8080 --bind ${CF_INSTANCE_INTERNAL_IP}
"""


@pytest.fixture(scope="module")
def cell(machine: Machine) -> MachineCell:
    return MachineCell(machine, config="tls: {mtls: strict}\n")


def plugin(machine: Machine, command: str, *, code: int = 0) -> str:
    """For the container `box` of the name `db`, in a namespace of that name."""
    variables = f"CNI_COMMAND={command} CNI_CONTAINERID=box CNI_IFNAME=eth0 CNI_NETNS=/run/netns/box CNI_ARGS=K8S_POD_NAME=db"
    script = f"echo '{json.dumps(CONFLIST)}' | env {variables} cellnet-cni"
    done = machine.run("sh", "-c", script, check=False)
    assert done.returncode == code, done.stdout
    return done.stdout


def names(cell: MachineCell) -> set[str]:
    """What is attached."""
    return set(cell.attachments())


def test_a_unit_of_systemd_runs_in_a_held_namespace(cell: MachineCell) -> None:
    machine = cell.machine
    machine.run("cellnet", "hold", "unit", "--app", "acme/shop/api", "--port", "8080")
    cell.write("/etc/systemd/system/held.service", UNIT)
    machine.shell("systemctl daemon-reload; systemctl start held")
    address = cell.attachments()["unit"]
    call = f"curl -sf -m 5 http://{address}:8080/"
    assert machine.run("cellnet", "exec", "other", "--", *call.split(), check=False).returncode != 0
    eventually(lambda: machine.run("cellnet", "exec", "web", "--", *call.split(), check=False).returncode == 0)
    machine.run("systemctl", "restart", "held")
    eventually(lambda: machine.run("cellnet", "exec", "web", "--", *call.split(), check=False).returncode == 0)
    assert cell.attachments()["unit"] == address
    machine.shell("systemctl stop held; cellnet release unit")
    assert "unit" not in names(cell)


def test_after_a_power_loss_nothing_is_attached_and_what_is_reserved_has_its_place_again(cell: MachineCell) -> None:
    machine = cell.machine
    said = machine.run("cellnet", "reserve", "db", "--app", "acme/shop/db", "--json").stdout
    place = json.loads(said)
    machine.run("ip", "netns", "add", "box")
    assert json.loads(plugin(machine, "ADD"))["ips"][0]["address"] == f"{place['address']}/32"
    machine.run("cellnet", "hold", "kept", "--app", "acme/shop/web")
    machine.run("sync")
    machine.power_loss()
    cell.wait_well()
    assert names(cell) == set()
    assert machine.path(place["environment_file"]).read_text().startswith(f"CF_INSTANCE_INTERNAL_IP={place['address']}\n")
    folder = machine.path(place["environment"]["CF_INSTANCE_CERT"]).parent
    assert list(folder.iterdir()) == []
    machine.run("ip", "netns", "add", "box")
    assert json.loads(plugin(machine, "ADD"))["ips"][0]["address"] == f"{place['address']}/32"
    assert {each.name for each in folder.iterdir()} == {"instance.crt", "instance.key"}
    assert names(cell) == {"db"}
    plugin(machine, "DEL")
    machine.shell("ip netns del box; cellnet release db")
    assert names(cell) == set()
    assert not machine.path(place["environment_file"]).exists()
