"""How many flows to outside of the overlay one container may open: new ones a second, and open ones, where it has such limits.

What rights let out comes here last. A container without limits meets at most the rules that lead past those of others, 48 among
256 containers, and none where no container has any. Open flows are counted by connlimit, which looks all of them up again for
a new one (at most once in a tick of the kernel), so they may not be too many. Its count is the rule's own: the legacy backend,
which writes a table as a whole, begins it anew with each change of rules.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from dataplane import way_out
from dataplane.firewall.matches import FRESH, hashlimit
from dataplane.firewall.notes import noted
from dataplane.state import HostState, Limits, Workload
from dataplane.tables import LIMIT_SETS, Note

CHAIN: Final = "CELLNET-LIMITS"
WITHIN_LIMITS: Final = f"-g {CHAIN}"
OVER_NEW, OVER_OPEN = f"{LIMIT_SETS}new", f"{LIMIT_SETS}open"  # sets: of these the kernel counts how often each was refused
NEW_CHAIN, OPEN_CHAIN = "CELLNET-OVER-NEW", "CELLNET-OVER-OPEN"
LIMITED_NEW: Final = "cellnet-limit-"  # and how many
SCALE: Final = 1_000_000  # of what the kernel divides by the number that is asked for
PARTS: Final = 16


def limit_chains(state: HostState) -> dict[str, Iterable[str]]:
    """All of these chains; the first is CELLNET-LIMITS."""
    limited = _limited(state)
    blocks = tuple(state.subnet.subnets(new_prefix=min(state.subnet.prefixlen + 4, 32)))
    members: dict[int, list[Workload]] = {}
    for each in limited:
        members.setdefault((int(each.address) - int(state.subnet.network_address)) // blocks[0].num_addresses, []).append(each)
    found: dict[str, Iterable[str]] = {CHAIN: (*(f"-s {blocks[part]} -g {CHAIN}-{part:x}" for part in members), "-j ACCEPT")}
    for part, workloads in members.items():
        found[f"{CHAIN}-{part:x}"] = (*(rule for each in workloads for rule in _rules(each.address, each.limits)), "-j ACCEPT")
    if any(each.limits.new for each in limited):
        found[NEW_CHAIN] = _refusal(OVER_NEW, state.overlay)
    if any(each.limits.connections for each in limited):
        found[OPEN_CHAIN] = _refusal(OVER_OPEN, state.overlay)
    return found


def limit_sets(state: HostState) -> dict[str, tuple[IPv4Network, ...]]:
    """The sets that the rules name: containers with a limit, ascending."""
    if not way_out.is_possible(state):
        return {}
    limited = _limited(state)
    found = {
        OVER_NEW: tuple(IPv4Network(each.address) for each in limited if each.limits.new),
        OVER_OPEN: tuple(IPv4Network(each.address) for each in limited if each.limits.connections),
    }
    return {name: addresses for name, addresses in found.items() if addresses}


def _limited(state: HostState) -> list[Workload]:
    found = [each for each in state.workloads.values() if each.limits.new or each.limits.connections]
    return sorted(found, key=lambda each: int(each.address))


def _rules(address: IPv4Address, limits: Limits) -> Iterator[str]:
    source = f"-s {address}/32"
    if limits.new:
        rate = as_kept(limits.new)
        yield f"{source} {FRESH} {hashlimit(rate=rate, burst=rate, name=f'{LIMITED_NEW}{rate}')} -g {NEW_CHAIN}"
    if limits.connections:
        above = f"-m connlimit --connlimit-above {limits.connections} --connlimit-mask 32 --connlimit-saddr"
        yield f"{source} {above} -g {OPEN_CHAIN}"


def as_kept(rate: int) -> int:
    """The rate that the kernel makes of one, and the tools print: above 1,000 not every one can be had."""
    return SCALE // (SCALE // rate)


def _refusal(counted: str, overlay: IPv4Network) -> tuple[str, ...]:
    """Another answer than that of a missing right, as far as TCP has one."""
    return (
        f"-m set --match-set {counted} src",  # no target: only counted
        noted(Note.LIMITED, overlay)[0],
        "-p tcp -j REJECT --reject-with tcp-reset",
        "-j REJECT --reject-with icmp-admin-prohibited",
    )
