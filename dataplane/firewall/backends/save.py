"""The rules that are there, as iptables-save prints them. How we know ours: chains named CELLNET-*."""

from collections.abc import Mapping
from typing import Final

from dataplane.firewall.backends.driver import FirewallTables
from dataplane.tables import CHAIN_PREFIX, ChainKey
from host.process import run

# targets after which a packet is gone, or goes on to the next rule
HARMLESS: Final = frozenset((
    "DROP", "REJECT", "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "CT", "SET", "TRACE", "NOTRACK", "TCPMSS", "DSCP", "TOS",
    "TTL", "CLASSIFY", "CHECKSUM", "AUDIT", "TEE", "TCPOPTSTRIP",
))  # fmt: skip


def read_both(tools: Mapping[int, str], *, timeout: float) -> FirewallTables:
    """Ours of both families, by the -save of each family's tool (`iptables-nft`). Raises HostRefused."""
    found = [read_save(run([f"{tool}-save"], timeout=timeout).decode(), family=family) for family, tool in tools.items()]
    return FirewallTables(
        chains={key: value for tables in found for key, value in tables.chains.items()},
        jumps={key: value for tables in found for key, value in tables.jumps.items()},
    )


def read_save(text: str, *, family: int) -> FirewallTables:
    """Ours among what iptables-save printed."""
    rules: dict[ChainKey, list[str]] = {}
    jumps: dict[ChainKey, list[int]] = {}
    accepting: dict[ChainKey, int] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(f":{CHAIN_PREFIX}"):
            rules[ChainKey(family, table, line[1:].split(" ", 1)[0])] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            key = ChainKey(family, table, chain)
            if chain.startswith(CHAIN_PREFIX):
                rules.setdefault(key, []).append(rule)
            elif rule == f"-j {key.jump_target}":
                jumps.setdefault(key, []).append(accepting.get(key, 0))
            elif can_accept(rule):
                accepting[key] = accepting.get(key, 0) + 1
    return FirewallTables(
        {key: tuple(found) for key, found in rules.items()}, {key: tuple(found) for key, found in jumps.items()}
    )


def can_accept(rule: str) -> bool:
    """Whether a packet may leave the chain through this rule without having met the rules behind it.

    What only drops, refuses, counts, marks or logs in front of our jump does no harm; a foreign chain may accept.
    """
    words = rule.split()
    for flag in ("-j", "-g"):
        if flag in words:
            return words[words.index(flag) + 1] not in HARMLESS
    return False
