"""A change of rules as iptables-restore's input. A changed chain becomes edits of single rules, where that are few. Pure.

A rule that is replaced is destroyed by the kernel later, when no processor can see it any longer; until then, 10 to 15 ms,
no link can be made. One container more adds rules and removes none, so its link need not wait.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from dataplane.plan import ChainDelta, JumpDelta
from dataplane.tables import ChainKey

# police before reachable: what drops and marks is there before what accepts
TABLES: Final = ("raw", "mangle", "nat", "filter")
MOST_EDITS: Final = 16  # of one chain; each looks for its place there


def restore_text(*, family: int, chains: ChainDelta, jumps: JumpDelta) -> str:
    """Input of `iptables-restore --noflush` that makes one family's changes; empty if there are none."""
    growing = {key.table for key in (*chains.put, *jumps.put) if key.family == family}
    # and what only goes, goes last: containers that may not leave any more must not leave unmasked before
    ordered = sorted(TABLES, key=lambda table: table not in growing)
    return "".join(_table_text(family, table, chains=chains, jumps=jumps) for table in ordered)


def _table_text(family: int, table: str, *, chains: ChainDelta, jumps: JumpDelta) -> str:
    def here(keys: Iterable[ChainKey]) -> list[ChainKey]:
        return sorted(key for key in keys if key.family == family and key.table == table)

    put = chains.put
    edited = {key: edits(key.chain, put[key], old=chains.old[key]) for key in here(chains.change)}
    whole = [key for key in here(put) if edited.get(key) is None]
    lines = [f":{key.chain} - [0:0]" for key in whole]
    lines += [f"-A {key.chain} {rule}" for key in whole for rule in put[key]]
    lines += [line for each in edited.values() for line in each or ()]
    for gone in (jumps.old, jumps.drop):
        lines += [f"-D {key.chain} -j {key.jump_target}" for key in here(gone) for _ in gone[key]]
    lines += [f"-I {key.chain} 1 -j {key.jump_target}" for key in here(jumps.put)]
    # emptied first: nft refuses to remove a chain with rules
    lines += [f"-{command} {key.chain}" for command in "FX" for key in here(chains.drop)]
    return "\n".join([f"*{table}", *lines, "COMMIT", ""]) if lines else ""


def edits(chain: str, wanted: Sequence[str], *, old: Sequence[str]) -> list[str] | None:
    """Lines that turn the chain's rules from `old` into `wanted`; None where that are too many, or what stays changes places.

    Removal names the rule and not its place: in a chain that another program has changed meanwhile it fails, and all is read.
    """
    before, after = set(old), set(wanted)
    if len(before) < len(old) or len(after) < len(wanted) or len(before ^ after) > MOST_EDITS:
        return None
    if [rule for rule in old if rule in after] != [rule for rule in wanted if rule in before]:
        return None
    gone = [f"-D {chain} {rule}" for rule in old if rule not in after]
    return gone + [f"-I {chain} {place} {rule}" for place, rule in enumerate(wanted, start=1) if rule not in before]
