"""All of a host that cellnet changes, read by other programs: to be compared before and after; and what other programs have."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from difflib import ndiff
from pathlib import Path

from tests.testlib.node import Node

COUNTERS = re.compile(r"\[\d+:\d+\]|counter packets \d+ bytes \d+|^#.*$|# handle \d+", re.MULTILINE)
UNLIKE = re.compile(r"random|fastopen_key|stable_secret|conntrack_count")  # the kernel sets them when they are first used
TABLE = re.compile(r"\*(\w+)\n((?:.*\n)*?)COMMIT\n")


def picture(host: Node, *, below: Path) -> dict[str, list[str]]:
    """Lines by kind; `below` is the folder whose mounts count."""
    found = {
        "nft": COUNTERS.sub("", host.run("nft", "list", "ruleset")),
        "sets": host.run("ipset", "save"),
        "links": re.sub(r"^\d+: |\w+_timer +[\d.]+", "", host.run("ip", "-d", "link"), flags=re.MULTILINE),
        "addresses": host.run("ip", "-o", "-4", "addr"),
        "routes": host.run("ip", "-4", "route", "show", "table", "all"),
        "rules": host.run("ip", "rule"),
        "fdb": host.run("bridge", "fdb"),
        "disciplines": host.run("tc", "qdisc"),
    }
    return {
        **{kind: text.splitlines() for kind, text in found.items()},
        **{tool: sorted(_tables(host.run(f"{tool}-save"))) for tool in TOOLS},
        "settings": list(_settings(host)),
        "mounts": [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{below}/" in line],
        "run": ["it is there"] if (below / "run/cellnet").exists() else [],
    }


TOOLS = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")


def _tables(text: str) -> Iterator[str]:
    """A table with built-in chains alone, which accept, is none: iptables-legacy has such ones until the next boot."""
    for name, lines in TABLE.findall(COUNTERS.sub("", text)):
        found = [line.strip() for line in lines.splitlines()]
        if any(not line.startswith(":") or " ACCEPT" not in line for line in found):
            yield "\n".join((name, *found))


def _settings(host: Node) -> Iterator[str]:
    for line in host.run("sysctl", "-a", "--pattern", "^net\\.", code=None).splitlines():
        if " = " in line and not UNLIKE.search(line):
            yield line


def differences(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Lines that are gone and lines that are new, by kind."""
    found = {}
    for kind, lines in before.items():
        if lines != after[kind]:
            found[kind] = [line for line in ndiff(lines, after[kind]) if line[:1] in "-+"]
    return found


def of_others(host: Node) -> None:
    """Rules of both backends, a table of nft, sets, links, addresses and a route, some named almost like cellnet's."""
    for tool in ("iptables-nft", "iptables-legacy"):
        host.run(tool, "-N", "CELLNETTLE")
        host.run(tool, "-A", "CELLNETTLE", "-p", "tcp", "--dport", "99", "-j", "DROP")
        host.run(tool, "-A", "FORWARD", "-j", "CELLNETTLE")
    for command in ("-A", "-D"):  # an empty chain is left
        host.run("iptables-nft", command, "INPUT", "-j", "ACCEPT")
    script = "table inet cellnet_of_others { chain input { type filter hook input priority 5; tcp dport 98 drop; }; }"
    subprocess.run(["nsenter", f"--net={host.pin}", "nft", "-f", "-"], input=script.encode(), check=True)
    host.run("ipset", "create", "cellnettle", "hash:ip")
    host.run("ipset", "add", "cellnettle", "192.0.2.7")
    host.run("ip", "link", "add", "cni0", "type", "bridge")
    host.run("ip", "link", "add", "cnetwork0", "type", "veth", "peer", "name", "cnetwork1")
    host.run("ip", "addr", "add", "192.0.2.1/24", "dev", "cni0")
    host.run("ip", "link", "set", "cni0", "up")
    host.run("ip", "addr", "add", "169.254.0.9/32", "dev", "lo")
    host.run("ip", "route", "add", "198.51.100.0/24", "dev", "cni0")
    host.run("sysctl", "-qw", "net.ipv4.conf.cni0.forwarding=1")
