"""The command line that becomes dnsmasq: root hands over to dnsmasq's user with one capability, and no way to more."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from typing import Final

from dataplane.dns.limits import most_children
from dataplane.dns.probe import PROBED
from dataplane.dns.zones import reverse_zones
from dataplane.state import Resolver

CAPABILITY: Final = "net_bind_service"  # port 53
# Answers of the outside that could be kept. By this number dnsmasq chooses how many chains its names are kept in, which it
# never changes while names come: with its own 150 they are 64, and 40,000 names make each of them 600 long
CACHE: Final = 10_000
# Where it asks the outside. An answer from there may say that its name stands for another one, with an address: dnsmasq would
# keep that address for the other name too, a cell's own as well (--local holds for what is asked, not for what is kept)
NOTHING_KEPT: Final = 0
# Questions to the outside that are not answered yet; each is waited for 10 s. For each question that it gets dnsmasq walks
# through half as many sockets, a third of its descriptors at the most: so only where it asks the outside, and with few of
# these. It also walks through all questions that wait: with 10,000 of one container's, own names took 1.5 s, with 1,000 11 ms
FORWARDED: Final = 1_000
LARGEST_ANSWER: Final = 1232  # bytes of a datagram: fits any path, and the overlay's MTU


@dataclass(frozen=True, slots=True, order=True)
class Upstream:
    """A name server of the outside."""

    address: IPv4Address | IPv6Address
    port: int = 53

    def __str__(self) -> str:
        return f"{self.address}#{self.port}"


HOP: Final = Upstream(IPv4Address("127.157.0.2"))  # where names of policies are asked for: on no link but `lo`


@dataclass(frozen=True, slots=True)
class DnsmasqSettings:
    """What differs between cells. `names` is the folder of names; the cell's part of the overlay has so many `addresses`.

    What is in no zone of the resolver's is asked of `upstreams`, or of those in `upstreams_file`, which is read again at
    SIGHUP; without either there is no such name: musl's resolver waits 5 s for another answer where it is refused. Questions
    there say `with_clients` which container asks.
    """

    resolver: Resolver
    overlay: IPv4Network
    addresses: int
    names: Path
    upstreams: tuple[Upstream, ...] = ()
    upstreams_file: Path | None = None
    with_clients: bool = False


def command(settings: DnsmasqSettings, *, binary: Path, user: str, uid: int, gid: int) -> Sequence[str]:
    """What to exec, as root. It ends with an error where the address is not there, or taken."""
    kept = f"-all,+{CAPABILITY}"
    return (
        "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--pdeathsig", "keep",
        f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}", "--", str(binary), *arguments(settings),
        f"--user={user}",
    )  # fmt: skip


def arguments(settings: DnsmasqSettings) -> Sequence[str]:
    """dnsmasq's own.

    Not --no-daemon, which answers TCP between datagrams, so that one idle connection holds up all. A change of a name is three
    lines of its log at the level of all others; so there is none, and what is wrong at its start it says to standard error.
    """
    asks_none = not settings.upstreams and settings.upstreams_file is None
    zones = (*settings.resolver.zones, *reverse_zones(settings.overlay), PROBED)
    return (
        "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=/dev/null",
        f"--listen-address={settings.resolver.address}", "--bind-interfaces", "--port=53",
        "--no-hosts", f"--hostsdir={settings.names}", *(f"--local=/{zone}/" for zone in zones),
        "--local-ttl=0", f"--cache-size={CACHE if asks_none or settings.with_clients else NOTHING_KEPT}",
        f"--edns-packet-max={LARGEST_ANSWER}", "--no-ident",
        f"--max-tcp-connections={most_children(settings.addresses)}",
        # a name without a dot means one of this cell's search list; nothing out there has one. Not --bogus-priv as well: name
        # servers of a site know the names of its private addresses
        "--domain-needed",
        *(("--address=/#/",) if asks_none else ()),
        # not a resolv.conf, of which it would keep the servers when none is left in it
        "--no-resolv", *(f"--server={each}" for each in settings.upstreams),
        *(() if settings.upstreams_file is None else (f"--servers-file={settings.upstreams_file}",)),
        # an option that the container has sent goes; and no answer is kept, since another container may not have it
        *(("--strip-subnet", "--add-subnet=32") if settings.with_clients else ()),
        *((f"--dns-forward-max={FORWARDED}",) if settings.upstreams or settings.upstreams_file else ()),
    )  # fmt: skip
