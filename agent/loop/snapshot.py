"""Everything that decides what the cell should look like, taken at one moment, at the beginning of each turn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from agent.cells.announcement import Announcement
from agent.cells.departures import Departures
from agent.cells.peers import Peers
from agent.cells.underlay import DEFAULT_UNDERLAY, UnderlayFacts, UnderlayMonitor
from agent.dns.readiness import Readiness
from agent.identity.leaves import Leaves
from agent.identity.names import Names
from agent.loop.endpoint_names import EndpointNames
from agent.loop.never_outside import NeverOutside
from agent.loop.roots_in_force import RootsInForce
from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.policy.in_force import PoliciesInForce, Resolve, ResolveOutside
from agent.policy.tags_in_use import TagsInUse
from agent.store.ledger import Ledger
from agent.store.protocols import CellStore, TrustStore
from dataplane.envoy.sockets.container_ports import ContainerPort
from dataplane.state import PLAIN, Leaf, MutualTls


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`leaving` are attachments on their way out, `drained` those whose published ports take no new calls before they go;
    `taken` are ports of Envoy's that programs in containers have.

    `departed` are containers of other cells that are not what they were, with the tags that their addresses have now. In
    `news_in` seconds more may be known of them, or the store may take what it has refused. `names` lead to instances of all
    cells; the first is what an address is called. `outside` has an app's rights to the outside and the outside's to
    it; what is in `never_outside` is none.
    """

    attachments: tuple[Attachment, ...]
    tags: Mapping[AppName, int]
    leaves: Mapping[str, Leaf]
    resolve: Resolve
    outside: ResolveOutside
    never_outside: tuple[IPv4Network, ...]
    trust_bundle: bytes
    groups: Mapping[str, frozenset[int]] = field(default_factory=dict)
    underlay: UnderlayFacts = DEFAULT_UNDERLAY
    peers: Mapping[IPv4Network, IPv4Address] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    departed: Mapping[IPv4Address, int] = field(default_factory=dict)
    mutual_tls: MutualTls = PLAIN
    taken: frozenset[ContainerPort] = frozenset()
    names: Mapping[IPv4Address, Names] = field(default_factory=dict)
    news_in: float | None = None


@dataclass(frozen=True, slots=True)
class SnapshotSources:
    """The parts that a snapshot is taken of. `leaving` are names that leave though the ledger could not be written; `taken`: as
    in Snapshot; `is_drained`: whether it is one of `drained` there; `follow_claims` hears of what is attached here."""

    trust: TrustStore
    cells: CellStore
    ledger: Ledger
    policies: PoliciesInForce
    tags: TagsInUse
    leaves: Leaves
    underlay: UnderlayMonitor
    peers: Peers
    departures: Departures
    announcement: Announcement
    roots: RootsInForce
    readiness: Readiness
    endpoint_names: EndpointNames
    never_outside: NeverOutside
    follow_claims: Callable[[tuple[Attachment, ...]], None]
    mutual_tls: Callable[[], MutualTls]
    leaving: set[str]
    taken: Callable[[], frozenset[ContainerPort]]
    is_drained: Callable[[Attachment], bool]

    async def take(self) -> Snapshot:
        """The parts as they are now. On the way tags are claimed and given back, and the announcement learns what runs here."""
        attachments = tuple(held for held in self.ledger.all() if held.name not in self.leaving)
        ready = self._ready(attachments)
        self.announcement.update(attachments, ready=ready, underlay=self.underlay.address)
        tags = await self.tags.follow(await self.policies.in_force(), attachments, files=self.policies.from_files())
        self.policies.forget_all_but({held.app for held in attachments})
        await self.refresh_trust()
        self.leaves.follow()
        self.roots.look()
        peers, outside = await self.peers.routes(), await self.policies.outside()
        return Snapshot(
            attachments=attachments,
            tags=tags,
            leaves=self.leaves.all(),
            resolve=await self.policies.resolver(tags),
            groups=self.policies.groups(),
            trust_bundle=self.leaves.trust.bundle,
            underlay=self.underlay.facts,
            peers=peers,
            departed=self.departures.take(tags),
            mutual_tls=self.mutual_tls(),
            taken=self.taken(),
            names=self.endpoint_names.all(ready, self.cells.endpoints()),
            outside=outside.rights,
            never_outside=self.never_outside.networks(peers, own=self.underlay.address),
            news_in=min((each for each in (self.departures.wait(), self.tags.wait()) if each is not None), default=None),
            drained=frozenset(held.name for held in attachments if held.publish and self.is_drained(held)),
            leaving=frozenset(self.leaving).union(held.name for held in attachments if held.phase is Phase.DETACHING),
        )

    def _ready(self, attachments: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
        """Those that names lead to: no longer, once they are on their way out."""
        attached = tuple(held for held in attachments if held.phase is Phase.ATTACHED)
        self.follow_claims(attached)
        self.readiness.follow(attached)
        return self.readiness.ready()

    async def refresh_trust(self) -> None:
        """Trust the roots that the store has now; needed at the start too, before apps and Envoy read the bundle."""
        self.leaves.trust.update(await self.trust.trust(), has_peers=len(await self.cells.cells()) > 1)
