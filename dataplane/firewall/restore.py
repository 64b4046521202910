"""iptables-restore's text: written from a delta, read from iptables-save. How we know ours: chains named CELLNET-*."""

from collections.abc import Iterable, Mapping

from dataplane.firewall import edits
from dataplane.firewall.driver import FirewallTables
from dataplane.firewall.rules import EVERY_JUMP
from dataplane.plan import Delta
from dataplane.tables import ChainKey
from host.process import run

OURS = "CELLNET-"
# police before reachable: what drops and marks is there before what accepts
TABLES = ("raw", "mangle", "nat", "filter")
# targets after which a packet is gone, or goes on to the next rule
HARMLESS = frozenset(
    [
        "DROP",
        "REJECT",
        "LOG",
        "NFLOG",
        "ULOG",
        "MARK",
        "CONNMARK",
        "CT",
        "SET",
        "TRACE",
        "NOTRACK",
        "TCPMSS",
        "DSCP",
        "TOS",
        "TTL",
        "CLASSIFY",
        "CHECKSUM",
        "AUDIT",
        "TEE",
    ]
)


def restore_text(*, family: int, chains: Delta[ChainKey, tuple[str, ...]], jumps: Delta[ChainKey, tuple[int, ...]]) -> str:
    """Input of `iptables-restore --noflush` that makes one family's changes; empty if there are none."""
    growing = {key.table for key in (*chains.put, *jumps.put) if key.family == family}
    # and what only goes, goes last: who may not leave any more must not leave unmasked before
    ordered = sorted(TABLES, key=lambda table: table not in growing)
    return "".join(_table_text(family, table, chains=chains, jumps=jumps) for table in ordered)


def _table_text(
    family: int, table: str, *, chains: Delta[ChainKey, tuple[str, ...]], jumps: Delta[ChainKey, tuple[int, ...]]
) -> str:
    def here(keys: Iterable[ChainKey]) -> list[ChainKey]:
        return sorted(key for key in keys if key.family == family and key.table == table)

    put = chains.put
    edited = {key: edits.lines(key.chain, put[key], old=chains.old[key]) for key in here(chains.change)}
    whole = [key for key in here(put) if edited.get(key) is None]
    lines = [f":{key.chain} - [0:0]" for key in whole]
    lines += [f"-A {key.chain} {rule}" for key in whole for rule in put[key]]
    lines += [line for each in edited.values() for line in each or ()]
    for gone in (jumps.old, jumps.drop):
        lines += [f"-D {key.chain} -j {EVERY_JUMP[key]}" for key in here(gone) for _ in gone[key]]
    lines += [f"-I {key.chain} 1 -j {EVERY_JUMP[key]}" for key in here(jumps.put)]
    # emptied first: nft refuses to remove a chain with rules
    lines += [f"-{command} {key.chain}" for command in "FX" for key in here(chains.drop)]
    return "\n".join([f"*{table}", *lines, "COMMIT", ""]) if lines else ""


def can_accept(rule: str) -> bool:
    """Whether a packet may leave the chain through this rule without having met the rules behind it.

    What only drops, refuses, counts, marks or logs in front of our jump does no harm; a foreign chain may accept.
    """
    words = rule.split()
    for flag in ("-j", "-g"):
        if flag in words:
            return words[words.index(flag) + 1] not in HARMLESS
    return False


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
        elif line.startswith(f":{OURS}"):
            rules[ChainKey(family, table, line[1:].split(" ", 1)[0])] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            key = ChainKey(family, table, chain)
            if chain.startswith(OURS):
                rules.setdefault(key, []).append(rule)
                continue
            if key in EVERY_JUMP and rule == f"-j {EVERY_JUMP[key]}":
                jumps.setdefault(key, []).append(accepting.get(key, 0))
            elif can_accept(rule):
                accepting[key] = accepting.get(key, 0) + 1
    return FirewallTables(
        {key: tuple(found) for key, found in rules.items()}, {key: tuple(found) for key, found in jumps.items()}
    )
