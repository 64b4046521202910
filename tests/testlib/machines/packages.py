"""The package of a release, built from this checkout, and machines that install it as an operator does."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.testlib.machines.machine import Machine

ROOT = Path(__file__).resolve().parents[3]
PLACE = "/root"
NEWER = "9.9.9"
APT = 'Dpkg::Options {"--force-confold"; "--force-unsafe-io";}; Dpkg::Use-Pty "0"; APT::Get::Assume-Yes "true";'
WRITTEN_BY_ANY_INSTALLATION = ("/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/log", "/var/lib/systemd/timers", PLACE)


@cache
def package_of(release: str) -> Path:
    """The .deb; it is built where nothing that it is made of has been built before."""
    made = subprocess.run([str(ROOT / "package/build"), release], stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    assert made.returncode == 0, "package/build has failed"
    return Path(made.stdout.strip())


def newer_package(package: Path, folder: Path) -> Path:
    """The same as version 9.9.9, with another `cellnet --version` and another agent.yaml; not compressed."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    old = package.name.split("_")[1].partition("~")[0]
    control, config = tree / "DEBIAN/control", tree / "etc/cellnet/agent.yaml"
    control.write_text(control.read_text().replace(f"Version: {old}", f"Version: {NEWER}"))
    config.write_text(f"# of {NEWER}\n{config.read_text()}")
    (metadata,) = tree.glob(f"usr/lib/cellnet/lib/python3.*/site-packages/cellnet-{old}.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace(f"\nVersion: {old}", f"\nVersion: {NEWER}"))
    made = folder / package.name.replace(old, NEWER)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return made


@contextmanager
def put(machine: Machine, package: Path) -> Iterator[None]:
    """The package is in the machine, in root's home."""
    inside = machine.path(PLACE) / package.name
    shutil.copy(package, inside)
    yield
    inside.unlink()


def files(machine: Machine) -> set[str]:
    """All that is on the machine's disk but what any installation writes; of accounts each one."""
    found = set(machine.shell("find / -xdev ! -type d -o -name '*cellnet*'").splitlines())
    accounts = machine.shell("getent passwd; getent group; cat /etc/shadow /etc/gshadow").splitlines()
    return {each for each in found if not each.startswith(WRITTEN_BY_ANY_INSTALLATION)} | set(accounts)


NETWORK = """
for each in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do $each-save | sed '/^#/d; s/\\[.*//'; done
nft list ruleset | grep -v '^#' || true
ipset list -n
ip -br link
ip -4 addr show lo
ip -4 route show table all
ip -4 rule
ls /run /run/netns 2>&1 | grep -i cellnet || true
grep cellnet /proc/self/mountinfo || true
cd /proc/sys/net/ipv4
grep . ip_forward conf/all/rp_filter ip_local_port_range ip_local_reserved_ports || true
"""


def network(machine: Machine) -> str:
    """What packets and lookups meet on the machine, and what is mounted there."""
    return machine.shell(NETWORK)
