"""The rig itself: a machine boots with this checkout, loses what a reboot loses, and leaves nothing on this host."""

import os
from pathlib import Path

import pytest

from tests.testlib.machines.boot import PROPAGATED, hierarchies
from tests.testlib.machines.machine import Machine, Segment, boot_all
from tests.testlib.netns import PREFIX


def left_of(folder: Path) -> dict[str, list[str]]:
    """What is on this host of machines that keep what they write in `folder`."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    processes = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if str(folder) in _command(pid)]
    places = [*hierarchies(), PROPAGATED, Path("/run/netns")]
    named = [str(each) for place in places if place.is_dir() for each in place.iterdir() if each.name.startswith(PREFIX)]
    return {"mounts": mounts, "processes": processes, "named": named}


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_a_machine_boots_reboots_and_loses_power_and_leaves_nothing_behind(tmp_path: Path) -> None:
    segment = Segment()
    first, second = boot_all(segment, 2, folder=tmp_path)
    try:
        assert first.run("cellnet", "--version").stdout
        assert first.run("ip", "-br", "link", "show", "host0").returncode == 0
        assert (
            second.run("bash", "-c", f"exec 3<>/dev/tcp/{first.address}/1", check=False).returncode == 1
        )  # refused: it is there
        first.shell("echo kept >/root/kept")
        for again in (first.reboot, first.power_loss):
            first.shell("echo lost >/run/lost; ip link add cnet0 type bridge; ip netns add lost; sync")
            again()
            assert first.shell("cat /root/kept") == "kept\n"
            assert not {"lost", "cnet0"} & set(first.shell("ls /run /run/netns /sys/class/net 2>&1", check=False).split())
    finally:
        for each in (first, second):
            each.close()
        segment.close()
    assert left_of(tmp_path) == {"mounts": [], "processes": [], "named": []}


@pytest.mark.parametrize("tool", ["systemctl", "nsenter", "curl", "dnsmasq", "iptables-nft-restore", "iptables-legacy-restore"])
def test_the_root_has_what_tests_of_machines_use(tool: str, machine: Machine) -> None:
    machine.run("which", tool)
