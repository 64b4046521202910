"""Rules for the cell's DNS: its own containers ask it, each within its limits, and nothing but the host itself does besides.

Datagrams have no conntrack entry, so that a flood takes no room in its table, and no host's rule can lead them elsewhere. What
is above a limit is dropped and not refused: a resolver that gets no answer asks again, and the kernel's ICMP errors are one
budget for all containers.
"""

from collections.abc import Iterator
from typing import Final

from dataplane.dns.command import HOP
from dataplane.dns.limits import CALLS_BURST, CALLS_RATE, LONG_BURST, LONG_RATE, RATE, open_calls
from dataplane.firewall import bpf
from dataplane.firewall.matches import FRESH, NOT_A_SYN, hashlimit
from dataplane.firewall.notes import noted
from dataplane.state import HostState, Resolver
from dataplane.tables import LIMITED_LONG, LIMITED_QUESTIONS, LIMITED_RESOLVER_CALLS, LOOPBACK_LINK, Note

PORT: Final = 53
CHAIN: Final = "CELLNET-RESOLVER"
UNANSWERED: Final = "CELLNET-UNANSWERED"
QUESTIONS: Final = f"-p udp {hashlimit(rate=RATE, burst=RATE, name=LIMITED_QUESTIONS)}"
# Each may keep one of dnsmasq's places for ten seconds. Names that are so long lead back from an address of IPv6
LONG: Final = f'-p udp -m bpf --bytecode "{bpf.LONG_NAME}" {hashlimit(rate=LONG_RATE, burst=LONG_BURST, name=LIMITED_LONG)}'
CALLS: Final = f"-p tcp {FRESH} {hashlimit(rate=CALLS_RATE, burst=CALLS_BURST, name=LIMITED_RESOLVER_CALLS)}"


def untracked_arriving(resolver: Resolver) -> Iterator[str]:
    """Of table raw: datagrams to it."""
    yield f"-d {resolver.address}/32 -p udp -m udp --dport {PORT} -j CT --notrack"


def untracked_sent(resolver: Resolver) -> Iterator[str]:
    """Of table raw: the answers to them, what the host itself asks, and what dnsmasq asks of the hop for containers."""
    for address in (resolver.address, HOP.address):
        yield f"-s {address}/32 -p udp -m udp --sport {PORT} -j CT --notrack"
        yield f"-d {address}/32 -p udp -m udp --dport {PORT} -j CT --notrack"


def kept_here(resolver: Resolver) -> Iterator[str]:
    """Of table nat: a host that leads all that is for one of its addresses elsewhere, as to a container of another engine."""
    yield f"-d {resolver.address}/32 -j NETMAP --to {resolver.address}/32"


def datagrams(resolver: Resolver) -> Iterator[str]:
    """Of what containers send the host: no entry says that one is an answer."""
    yield f"-d {resolver.address}/32 -p udp -m udp --dport {PORT} -g {CHAIN}"


def calls(resolver: Resolver) -> Iterator[str]:
    """Of what containers send the host, but for what belongs to an open connection."""
    yield f"-d {resolver.address}/32 -p tcp -m tcp --dport {PORT} -g {CHAIN}"


def strangers(resolver: Resolver) -> Iterator[str]:
    """Of what arrives for the host itself, but for its containers' packets: the address is reached on any link."""
    yield f"-d {resolver.address}/32 ! -i {LOOPBACK_LINK} -j DROP"


def limited(state: HostState) -> dict[str, tuple[str, ...]]:
    """The chain that containers' questions come to, and that of those which are too many."""
    most = open_calls(state.subnet.num_addresses)
    rules = (
        f"{QUESTIONS} -g {UNANSWERED}",
        f"{LONG} -g {UNANSWERED}",
        "-p udp -j ACCEPT",
        f"{NOT_A_SYN} -j CELLNET-REJECT",
        f"{CALLS} -g {UNANSWERED}",
        f"-p tcp -m connlimit --connlimit-above {most} --connlimit-mask 32 --connlimit-saddr -g {UNANSWERED}",
        "-j ACCEPT",
    )
    return {CHAIN: rules, UNANSWERED: (*noted(Note.UNANSWERED, state.overlay), "-j DROP")}
