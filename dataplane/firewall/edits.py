"""One chain's change as iptables-restore's lines: only the rules that differ, where that are few.

A rule that is replaced is destroyed by the kernel later, when no processor can see it any longer; until then, 10 to 15 ms,
nobody can make a link. A container more adds rules and takes none away, so its link need not wait. Pure.
"""

from collections.abc import Sequence

MOST = 16  # edits; each looks for its place in the chain


def lines(chain: str, wanted: Sequence[str], *, old: Sequence[str]) -> list[str] | None:
    """What turns the chain's rules from `old` into `wanted`; None where that is too much, or what stays changes places.

    Removal names the rule and not its place: in a chain that somebody has changed meanwhile it fails, and the whole is read.
    """
    before, after = set(old), set(wanted)
    if len(before) < len(old) or len(after) < len(wanted) or len(before ^ after) > MOST:
        return None
    if [rule for rule in old if rule in after] != [rule for rule in wanted if rule in before]:
        return None
    gone = [f"-D {chain} {rule}" for rule in old if rule not in after]
    return gone + [f"-I {chain} {place} {rule}" for place, rule in enumerate(wanted, start=1) if rule not in before]
