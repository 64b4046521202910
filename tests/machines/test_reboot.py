"""A cell that boots: nothing passes before the agent enforces, then what policies allow, with what the boot starts again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testlib.machines.cell import PORT, MachineCell
from tests.testlib.machines.machine import Machine
from tests.testlib.patience import eventually

SLEEP = "sleep infinity"
APP = "python3 -IS {folder}/echo_app.py {port}"
SERVICE = """
[Unit]
Description=Container {name}
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/cellnet run --app acme/shop/{name} --name {name} {ports} -- {command}
Restart=always
RestartSec=200ms

[Install]
WantedBy=multi-user.target
"""
EARLY = """
[Unit]
Description=What there is before the agent
Before=cellnet-agent.service shop-api.service

[Service]
Type=oneshot
ExecStart=sh -c 'ls /sys/class/net; ls /run/netns /run/cellnet/netns; iptables-save; ipset list -n'
StandardOutput=truncate:/root/early
StandardError=null

[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def cell(machine: Machine) -> MachineCell:
    """With three containers that the boot starts, and one that it does not."""
    made = MachineCell(machine, apps=False)
    app = APP.format(folder=Path(__file__).resolve().parents[1] / "testlib" / "in_containers", port=PORT)
    for name, ports, command in (
        ("api", f"--port {PORT}", app),
        ("web", "", "sleep infinity"),
        ("other", "", "sleep infinity"),
    ):
        made.write(f"/etc/systemd/system/shop-{name}.service", SERVICE.format(name=name, ports=ports, command=command))
    made.write("/etc/systemd/system/early.service", EARLY)
    machine.shell(
        "systemctl daemon-reload; systemctl enable --quiet early shop-{api,web,other}; systemctl start shop-{api,web,other}"
    )
    eventually(lambda: made.attachments().keys() == {"api", "web", "other"})
    machine.start("cellnet", "run", "--app", "acme/shop/late", "--name", "late", "--", "sleep", "infinity")
    eventually(lambda: "late" in made.attachments())
    return made


@pytest.mark.parametrize("end", [Machine.reboot, Machine.power_loss])
def test_a_boot_begins_with_nothing_then_denies_then_allows(cell: MachineCell, end: Callable[[Machine], None]) -> None:
    before = cell.attachments()
    end(cell.machine)
    eventually(lambda: cell.attachments().keys() == {"api", "web", "other"}, seconds=60)
    cell.wait_well()
    early = cell.machine.shell("cat /root/early")
    assert "host0" in early
    assert "cnet" not in early
    assert "cellnet" not in early.lower()
    eventually(lambda: cell.connects("web", PORT))
    assert not cell.connects("other", PORT)
    assert not set(cell.attachments().values()) & set(before.values())  # no address is another's at once


def test_a_power_loss_leaves_nothing_that_a_later_start_does_not_sweep(cell: MachineCell) -> None:
    cell.machine.power_loss()
    eventually(lambda: cell.attachments().keys() == {"api", "web", "other"}, seconds=60)
    cell.wait_well()
    links = {f"cnet{int.from_bytes(bytes(map(int, each.split('.'))), 'big'):08x}" for each in cell.attachments().values()}
    assert {each for each in cell.machine.shell("ls /sys/class/net").split() if each.startswith("cnet")} == links
    for folder in ("netns", "env", "resolv", "identity"):
        found = set(cell.machine.shell(f"ls /run/cellnet/{folder}").split())
        assert {each for each in found if "late" in each} == set(), folder
    assert json.loads(cell.machine.run("cellnet", "status", "--json").stdout)["problems"] == []
