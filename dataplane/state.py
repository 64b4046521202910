"""What this cell should be, as one value: the agent makes it, the dataplane turns it into kernel tables and Envoy resources.

Nothing here knows a policy's text, a store or a CA: a source is a tag, a certificate is bytes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, TypeAlias

# Where Envoy takes a container's own calls (on its 127.0.0.1), and the tunnels that lead to it (on its overlay address)
OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15008
TLS_PORT: Final = 61443  # where it terminates TLS, unless the configuration says otherwise


@dataclass(frozen=True, slots=True, order=True)
class Allow:
    """One right to reach a workload: packets marked `tag`, `protocol` ("tcp", "udp" or "icmp"), ports first to last inclusive.

    With a `group` the right is that of all tags in HostState.groups under that name, and `tag` is 0. Of ICMP it is a right to
    an echo alone, and both ports are 0. With `audit` the first packet of what passes by no other right is noted.
    """

    tag: int
    protocol: str
    first: int
    last: int
    group: str = ""
    audit: bool = False


@dataclass(frozen=True, slots=True, order=True)
class OutsideRight:
    """One right of a workload to reach the outside, or of the outside to reach a workload: protocol and ports as in Allow.

    Either `networks` (ascending and apart, never a /0) or `names` of hosts: `api.example.com`, `*.example.org` (all below it).
    With `audit` as in Allow.
    """

    protocol: str
    first: int
    last: int
    networks: tuple[IPv4Network, ...] = ()
    names: tuple[str, ...] = ()
    audit: bool = False


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """Ports `first` to `last` of the host that lead to ports of a container, the first one to `to`.

    `protocol` is "tcp" or "udp", `address` that of the host; without one it is any but those of loopback.
    """

    protocol: str
    address: IPv4Address | None
    first: int
    last: int
    to: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one workload may take at most; 0 is without a limit.

    `rate` is bits a second, in and out each. Of its flows to outside of the overlay `connections` may be open at once, and
    `new` may begin in a second.
    """

    rate: int = 0
    connections: int = 0
    new: int = 0


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, order=True)
class HostService:
    """A port of the host itself that containers may reach."""

    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A workload's certificate chain (leaf first, PEM) and key (PEM). Prints as a fingerprint, never the key."""

    chain: bytes
    key: bytes = field(repr=False)

    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of chain and key: changes exactly when either does."""
        return hashlib.sha256(self.chain + b"\0" + self.key).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Leaf({self.fingerprint()})"


class TargetHttp(IntEnum):
    """What is spoken to a TLS port's target: the bytes as they come, HTTP/1.1, or HTTP/2 in plain text.

    With HTTP, X-Forwarded-Client-Cert names the caller; callers may speak HTTP/2 or HTTP/1.1 whatever the target speaks.
    """

    NONE = 0
    HTTP1 = 1
    HTTP2 = 2


@dataclass(frozen=True, slots=True)
class TlsListener:
    """A port of one workload where Envoy ends TLS with `leaf` and forwards to `target_port`, both on the overlay address.

    `http`: what is spoken to the target.
    """

    port: int
    leaf: Leaf
    target_port: int
    http: TargetHttp = TargetHttp.NONE


@dataclass(frozen=True, slots=True)
class OutboundListener:
    """Where the TCP that one workload sends into the overlay enters tunnels, in which it shows `leaf`.

    A tunnel takes new streams for `longest` seconds.
    """

    leaf: Leaf
    longest: int
    port: int = OUTBOUND_PORT


@dataclass(frozen=True, slots=True)
class InboundListener:
    """Where the tunnels that lead to one workload end, with `leaf`; from there streams go to any of its ports but `reserved`.

    A tunnel takes new streams for `longest` seconds.
    """

    leaf: Leaf
    reserved: frozenset[int]
    longest: int
    port: int = INBOUND_PORT


Listener: TypeAlias = TlsListener | OutboundListener | InboundListener


@dataclass(frozen=True, slots=True)
class MutualTls:
    """What becomes of TCP between containers, but for the port that terminates TLS. The default is mutual TLS switched off.

    `served`: Envoy serves both ends of tunnels. `redirected`: what a container sends goes into one, but to `exempt` parts of
    the overlay. `plain`: what comes in no tunnel passes, too, where its app has a right to.
    """

    served: bool = False
    redirected: bool = False
    plain: bool = True
    exempt: frozenset[IPv4Network] = frozenset()


PLAIN: Final = MutualTls()


@dataclass(frozen=True, slots=True)
class Workload:
    """One attachment as the host sees it.

    `pin` is the bind mount that holds its network namespace, `interface` the name inside; `tag` is its app's number;
    `listeners` are what Envoy serves in there. `egress` is what the app may reach outside of the overlay, `ingress` from where
    there it may be reached, at ports of its own that are published with `publish`. Workloads share them where they are equal,
    and they are the same objects while nothing changes.
    """

    name: str
    address: IPv4Address
    tag: int
    pin: Path
    interface: str = "eth0"
    allows: frozenset[Allow] = frozenset()
    listeners: tuple[Listener, ...] = ()
    egress: frozenset[OutsideRight] = frozenset()
    ingress: frozenset[OutsideRight] = frozenset()
    publish: tuple[PublishedPort, ...] = ()
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class Tunnel:
    """This cell's end of the overlay: VXLAN `vni`, UDP `port` of the underlay's `interface` and `address`."""

    interface: str
    address: IPv4Address
    vni: int
    port: int


@dataclass(frozen=True, slots=True)
class Resolver:
    """What answers the containers' questions for names: it has `address`, and alone answers for all that is in `zones`."""

    address: IPv4Address
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostState:
    """The whole cell. `subnet` is this cell's part of `overlay`; `mtu` the containers'; `trust_bundle` PEM roots.

    Without a `tunnel` there are no other cells. `peers` are theirs: part of the overlay -> address in the underlay.
    `principals` are the SPIFFE ids that stand for tags, `group_principals` what those of a group's apps begin with.
    `names` are what each instance of all cells answers to; the first is what its address is called.

    Nothing in `never_outside` is reached by what leaves the overlay, whatever is a right. With `egress_allowed` all else there
    is; with `ingress_allowed` every published port is open to all.
    """

    overlay: IPv4Network
    subnet: IPv4Network
    mtu: int
    workloads: Mapping[IPv4Address, Workload]
    egress_allowed: bool = False
    ingress_allowed: bool = False
    never_outside: tuple[IPv4Network, ...] = ()
    host_services: tuple[HostService, ...] = ()
    trust_bundle: bytes = b""
    # sources that many rights share, such as all apps of an org: one chain each, however many containers they may reach
    groups: Mapping[str, frozenset[int]] = field(default_factory=dict)
    tunnel: Tunnel | None = None
    peers: Mapping[IPv4Network, IPv4Address] = field(default_factory=dict)
    ipv6: bool = True  # whether there is any to block
    mptcp: bool = True  # whether there is any, and the kernel can take its option out
    mutual_tls: MutualTls = PLAIN
    tls_port: int = TLS_PORT  # of every container of every cell: it is there before any listener is
    names: Mapping[IPv4Address, tuple[str, ...]] = field(default_factory=dict)  # the same object while nothing changes
    resolver: Resolver | None = None  # without one no container has DNS
    # not compared: where they change the rights do, and a tag rests for a week before it stands for another app
    principals: Mapping[int, str] = field(default_factory=dict, compare=False)
    group_principals: Mapping[str, str] = field(default_factory=dict, compare=False)

    def tags_of(self, allow: Allow) -> frozenset[int]:
        """The tags of the apps that have this right."""
        return self.groups.get(allow.group, frozenset()) if allow.group else frozenset({allow.tag})
