"""Every kernel subsystem that cellnet writes, as a table: a mapping of frozen keys to frozen values.

`compile_tables` makes the tables a HostState wants, `Kernel.read` those the kernel has, and one `diff` serves them all.
How we know that an entry is ours stands beside each table.
"""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

CHAIN_PREFIX = "CELLNET-"
LINK_PREFIX = "cnet"
SHAPER_PREFIX = "cifb"  # no rule's `cnet+`
# What the kernel counts new flows of containers by. It keeps the limits of a name until no rule has it: others need another
LIMITED_DATAGRAMS, LIMITED_ECHOES, LIMITED_CALLS = "cellnet-new-udp", "cellnet-new-icmp", "cellnet-new-tcp"
LIMITED_TUNNELS = "cellnet-new-tunnels"
EXCESS_TUNNELS, EXCESS_TLS = "cellnet-excess", "cellnet-excess-tls"  # sources that have too many open
LIMITED_QUESTIONS, LIMITED_RESOLVER_CALLS = "cellnet-dns-udp", "cellnet-dns-tcp"
LIMITED_LONG = "cellnet-dns-long"
NOTED = "cellnet-noted"  # what each source is refused, as far as the agent hears of it
AUDITED = "cellnet-audited"  # and what of each two ends passes by an audit alone
AUDITED_OUT, AUDITED_IN = "cellnet-audited-out", "cellnet-audited-in"  # and what of each container does, to and from outside
NOTES_GROUP = 157  # of NFLOG
TUNNEL_LINK = "cellnet0"  # matches neither `cnet+` nor a container's link
CELLFUL = 4096  # addresses for which what follows from one is cached: every turn wants it for all containers
ROUTE_PROTOCOL = 157  # no other program's in iproute2's rt_protos; 99 is Open/R
ADDRESS_PROTOCOL = ROUTE_PROTOCOL
LOOPBACK_LINK = "lo"
TAGS_SET, VTEPS_SET = "cellnet-tags", "cellnet-vteps"
OUTSIDE_SETS = "cellnet-out-"  # and a hash of what is in one
LIMIT_SETS = "cellnet-over-"  # containers with a limit, and how often each has come to it (`firewall/limits.py`)
NAME_SETS = "cellnet-name-"  # and a hash of the names whose addresses are in one
TAG_MASK, WHOLE_MARK = 0xFFFF, 0xFFFFFFFF
GATEWAY = IPv4Address("169.254.0.1")
# Envoy marks the connections it makes with a caller's address, so that their answers come back to it: one mark for those that
# come out of tunnels, one for those of the port that terminates TLS
TUNNEL_MARK, ORIGINAL_SOURCE_MARK = 76, 77
EITHER_MARK = 0xFFFFFFFE  # the bits in which the two are the same


class Note(StrEnum):
    """Why a packet came to a chain that refuses, or to the one of what an audit lets pass: as NFLOG's prefix has it."""

    REFUSED = "refused"
    LIMITED = "limit"
    INVALID = "invalid"
    FORGED = "spoofed"
    UNANSWERED = "resolver"
    AUDITED = "audit"


@lru_cache(maxsize=CELLFUL)
def host_interface(address: IPv4Address) -> str:
    """Name of the host's end: `cnet` and 8 hex digits. A shorter prefix would match other engines' `cni0`."""
    return f"{LINK_PREFIX}{int(address):08x}"


@lru_cache(maxsize=CELLFUL)
def shaper_interface(address: IPv4Address) -> str:
    """Name of the device that slows down what a container sends, where that is limited."""
    return f"{SHAPER_PREFIX}{int(address):08x}"


@lru_cache(maxsize=CELLFUL)
def container_mac(address: IPv4Address) -> str:
    """The container's end; derived, so that the host need not ask for it."""
    return "02:c0:" + address.packed.hex(":")


@lru_cache(maxsize=CELLFUL)
def host_mac(address: IPv4Address) -> str:
    """The host's end."""
    return "02:c1:" + address.packed.hex(":")


@lru_cache(maxsize=CELLFUL)
def tunnel_mac(address: IPv4Address) -> str:
    """A cell's end of the overlay; derived, so that its peers know it."""
    return "02:c2:" + address.packed.hex(":")


@dataclass(frozen=True, slots=True, order=True)
class ChainKey:
    """A chain, or the built-in one that jumps to it: family 4 or 6, table, name."""

    family: int
    table: str
    chain: str

    def __str__(self) -> str:
        return f"ip{'6' if self.family == 6 else ''}tables {self.table} {self.chain}"

    @property
    def jump_target(self) -> str:
        """The chain of ours that is jumped to from a built-in one."""
        return CHAIN_PREFIX + self.chain


@dataclass(frozen=True, slots=True)
class Veth:
    """The host's end of a pair, keyed by its name; the other end is `peer` inside the namespace of `address`."""

    address: IPv4Address
    mac: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Vtep:
    """This cell's end of the overlay, keyed by its device's name. `local` is its address in the underlay.

    `features` are the words of `ip -d link` for how it works: "gbp" carries marks; none of the others may be there.
    """

    addresses: tuple[IPv4Interface, ...]
    mac: str
    mtu: int
    vni: int
    port: int
    local: IPv4Address | None
    features: frozenset[str] = frozenset({"gbp"})

    def is_same_device(self, other: "Vtep") -> bool:
        """Whether the one becomes the other without being made anew."""
        return (self.vni, self.port, self.local, self.features) == (other.vni, other.port, other.local, other.features)


@dataclass(frozen=True, slots=True, order=True)
class KernelRoute:
    """Where a route leads: over a link, to a gateway there or straight to the destination."""

    link: str
    gateway: IPv4Address | None = None

    def __str__(self) -> str:
        return self.link if self.gateway is None else f"{self.link} via {self.gateway}"


@dataclass(frozen=True, slots=True)
class Redirect:
    """What leads the TCP that a container sends into the `overlay` to Envoy, at the start of a connection.

    Not to its own address, to `direct_ports` of any, or to what is in `exempt`. With `only_tunnels` no other TCP leaves for the
    overlay than to and from `direct_ports`: what is no longer led to Envoy goes nowhere.
    """

    overlay: IPv4Network
    direct_ports: tuple[int, ...]
    exempt: tuple[IPv4Network, ...] = ()
    only_tunnels: bool = False


@dataclass(frozen=True, slots=True)
class Interior:
    """A container's end, keyed by its address: what is set inside the namespace pinned at `pin`."""

    pin: Path
    interface: str
    mac: str
    gateway_mac: str
    mtu: int
    original_source: bool
    redirect: Redirect | None = None


@dataclass(frozen=True, slots=True, order=True)
class NeighbourKey:
    """An entry of the host's neighbour table."""

    device: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Tables:
    """All of them. Empty tables are what a fresh host has."""

    # ours: the keys that we want (a sysctl has no owner)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    # ours: set `cellnet-tags`
    tags: Mapping[IPv4Address, int] = field(default_factory=dict)
    # ours: chains CELLNET-*; a value is the rules in iptables-save's own words
    chains: Mapping[ChainKey, tuple[str, ...]] = field(default_factory=dict)
    # ours: jumps to CELLNET-*, keyed by the built-in chain; for each, how many rules before it might accept a packet
    jumps: Mapping[ChainKey, tuple[int, ...]] = field(default_factory=dict)
    # ours: cnet + 8 hex digits, kind veth
    veths: Mapping[str, Veth] = field(default_factory=dict)
    # ours: those of our veths; apart from them because a link goes up last
    links_up: Mapping[str, bool] = field(default_factory=dict)
    # ours: our attachments' namespaces
    interiors: Mapping[IPv4Address, Interior] = field(default_factory=dict)
    # ours: permanent entries on our veths
    neighbours: Mapping[NeighbourKey, str] = field(default_factory=dict)
    # ours: by their protocol number
    routes: Mapping[IPv4Network, KernelRoute] = field(default_factory=dict)
    # ours: cellnet0, kind vxlan
    vteps: Mapping[str, Vtep] = field(default_factory=dict)
    # ours: on `lo`, by their protocol number; a value is that link's name
    addresses: Mapping[IPv4Address, str] = field(default_factory=dict)
    # ours: all of cellnet0's; a peer's MAC and the underlay addresses that its frames are sent to
    fdb: Mapping[str, tuple[IPv4Address, ...]] = field(default_factory=dict)
    # ours: set `cellnet-vteps`, the underlay addresses whose tunnelled packets are taken; a value is the mark that stands
    # for that peer's part of the overlay (`firewall/bpf.py`)
    senders: Mapping[IPv4Address, int] = field(default_factory=dict)
    # ours: sets cellnet-out-*, each with networks outside that rules name it for, ascending
    outside: Mapping[str, tuple[IPv4Network, ...]] = field(default_factory=dict)
    # ours: sets cellnet-over-*, each with containers that have the limit, ascending
    limited: Mapping[str, tuple[IPv4Network, ...]] = field(default_factory=dict)
    # ours: qdiscs of our veths, and links cifb + 8 hex digits; bits a second in and out, 0 where not all of it is right
    rates: Mapping[IPv4Address, int] = field(default_factory=dict)
    # ours: sets cellnet-name-*; a value is the patterns of names whose addresses are in one. Those come and go with the answers
    # of the resolver (`sets/names.py`)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def is_of_links(setting: str, links: Set[str]) -> bool:
    """Whether a sysctl is one of these links'."""
    return not links.isdisjoint(setting.split("/"))


def without(tables: Tables, addresses: Collection[IPv4Address], *, overlay: bool = False) -> Tables:
    """All but what connects these containers, and with `overlay` this cell with others; what polices them stays."""
    if not addresses and not overlay:
        return tables
    links = {host_interface(address) for address in addresses} | ({TUNNEL_LINK} if overlay else set())
    return replace(
        tables,
        sysctls={key: value for key, value in tables.sysctls.items() if not is_of_links(key, links)},
        veths={key: value for key, value in tables.veths.items() if key not in links},
        links_up={key: value for key, value in tables.links_up.items() if key not in links},
        interiors={key: value for key, value in tables.interiors.items() if key not in addresses},
        neighbours={key: value for key, value in tables.neighbours.items() if key.device not in links},
        routes={key: value for key, value in tables.routes.items() if value.link not in links},
        rates={key: value for key, value in tables.rates.items() if key not in addresses},
        vteps={} if overlay else tables.vteps,
        fdb={} if overlay else tables.fdb,
    )
