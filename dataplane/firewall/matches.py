"""Matches that the rules of several tables share, in iptables-save's own words, so that what is read back compares equal."""

from typing import Final

from dataplane.state import Allow, OutsideRight, Tunnel
from dataplane.tables import LINK_PREFIX

CONTAINERS: Final = f"{LINK_PREFIX}+"  # every container's link, and not the tunnel's
NOT_A_SYN: Final = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"
ESTABLISHED: Final = "-m conntrack --ctstate ESTABLISHED"
STRIP_MPTCP: Final = "TCPOPTSTRIP --strip-options 30"
# The mark's bit that crosses the tunnel beside the tag, as VXLAN's "don't learn", which we never do: the sender has opened this
# flow, as its cell sees it. Else each of two cells would take for an answer what the other's container sends once its own has
# called, and two containers that have called each other, both in vain, would be connected
OPENER: Final = "0x400000/0x400000"
# Only a packet that makes an entry in conntrack's table: established flows, and calls that are repeated, are not counted
FRESH: Final = "-m conntrack ! --ctstatus CONFIRMED"
ECHO: Final = "-m icmp --icmp-type 8"  # the request; what answers one is established
ANY: Final = (1, 65535)


def hashlimit(*, rate: int, burst: int, name: str) -> str:
    """What of one source is above so many packets a second, once so many have come.

    A source that is silent is forgotten only when it has its full credit again. Else, after a second, it would have it at once.
    """
    kept = f"--hashlimit-burst {burst} --hashlimit-mode srcip --hashlimit-name {name}"
    expires = 1000 * burst // rate  # milliseconds
    forgotten = "" if expires == 1000 else f" --hashlimit-htable-expire {expires}"  # the tools do not print their default
    return f"-m hashlimit --hashlimit-above {rate}/sec {kept}{forgotten}"


def crowded(port: int, most: int) -> str:
    """A call to a port, of a source that has more than so many open where the rule is. Counted by connlimit: they last for as
    long as the caller likes, so that a rate alone bounds nothing.
    """
    return f"{port_match(port)} -m connlimit --connlimit-above {most} --connlimit-mask 32 --connlimit-saddr"


def port_match(port: int) -> str:
    """TCP to a port."""
    return f"-p tcp -m tcp --dport {port}"


def ports_match(right: Allow | OutsideRight) -> str:
    """The ports of a right, after its protocol; all of them need no match."""
    if right.protocol == "icmp":
        return f" {ECHO}"
    if (right.first, right.last) == ANY:
        return ""
    ports = str(right.first) if right.first == right.last else f"{right.first}:{right.last}"
    return f" -m {right.protocol} --dport {ports}"


def tunnelled(tunnel: Tunnel) -> str:
    """One packet in another: UDP between two cells' underlay addresses."""
    return f"-p udp -m udp --dport {tunnel.port}"


def arriving(tunnel: Tunnel) -> str:
    """What is tunnelled to this cell, by the way on which it has to come."""
    return f"-d {tunnel.address}/32 -i {tunnel.interface} {tunnelled(tunnel)}"
