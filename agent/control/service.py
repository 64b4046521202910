"""What the control API can ask of the agent. The daemon implements it on the real parts, the tests on memory.

Every method raises the errors of agent/errors.py and nothing else; any other exception is answered as a Bug. A call is
cancelled when it takes longer than the server's limit or when the agent stops: `attach` must then undo what it began.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol

from agent.model import policy
from agent.model.attachment import Attachment, AttachRequest
from agent.model.cell import CellRecord
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.policy import Policy
from agent.model.status import Problem
from ca.show import Shown, Summary
from dataplane.tunnel_probe import TunnelAnswer


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of the socket, as the kernel saw it when it connected (pid 0: not visible from here).

    A path that a client names is looked up below `/proc/<pid>/root`.
    """

    pid: int
    uid: int
    gid: int


class TlsState(Enum):
    """How far TLS of one attachment is: listening, waiting for Envoy or a certificate, refused by Envoy."""

    READY = "ready"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class TlsView:
    """`not_after`: when its certificate ends (UTC), None while it has none."""

    state: TlsState
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """An attachment with what its caller needs: `pin` holds its namespace, `environment` is for the container's processes."""

    attachment: Attachment
    tls: TlsView
    pin: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CellView:
    """Who this cell is: its part of the overlay, the containers' MTU in bytes, the agent's process and its start (UTC)."""

    name: str
    overlay: IPv4Network
    subnet: IPv4Network
    mtu: int
    attachments: int
    version: str
    pid: int
    started: datetime


@dataclass(frozen=True, slots=True)
class CellRow:
    """A cell of the store. `alive_since` (UTC) is None for one that is not heard of; `here`: the one that answers."""

    record: CellRecord
    alive_since: datetime | None
    here: bool


@dataclass(frozen=True, slots=True)
class StoreView:
    """`kind` is the implementation ("sqlite"), `location` its file."""

    kind: str
    location: str


@dataclass(frozen=True, slots=True)
class PeerView:
    """Another cell: its part of the overlay, its address in the underlay, since when its agent is alive (UTC), None while it is
    not, and what its end of the tunnel answered last, None if it was not asked yet."""

    name: str
    subnet: IPv4Network
    underlay: IPv4Address
    alive_since: datetime | None
    tunnel: TunnelAnswer | None


@dataclass(frozen=True, slots=True)
class PoliciesView:
    """How many policies are in force from files and from the store; `bad_files` keep their last good version."""

    from_files: int
    from_store: int
    files: int
    bad_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FirewallView:
    """Which flavour of iptables (nft, legacy), and how many rules of ours it has."""

    backend: str
    rules: int


@dataclass(frozen=True, slots=True)
class EnvoyView:
    """`rejected` are the resources that Envoy refused, with its words."""

    connected: bool
    version: str | None
    listeners: int
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaView:
    """When the root and this cell's certificate end, and when the next certificate of all (leaves included) does (UTC)."""

    trust_domain: str
    root_not_after: datetime
    cell_not_after: datetime
    next_expiry: datetime


@dataclass(frozen=True, slots=True)
class LastApply:
    """The last time that the kernel or Envoy was changed: when (UTC), how long it took, how many changes."""

    at: datetime
    milliseconds: float
    changes: int


@dataclass(frozen=True, slots=True)
class Status:
    """The cell on one screen. `peers` are the other cells.

    Since the agent's start: `repairs` is what was put back, `refused_attaches` what failed and was undone.
    """

    problems: tuple[Problem, ...]
    cell: CellView
    store: StoreView
    peers: tuple[PeerView, ...]
    policies: PoliciesView
    firewall: FirewallView
    envoy: EnvoyView
    ca: CaView | None
    last_apply: LastApply | None
    repairs: int
    refused_attaches: int

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Verdict:
    """May a source reach a destination: the policy that says so, and the one that allows the other direction."""

    by: Policy | None
    reverse: Policy | None

    @property
    def allowed(self) -> bool:
        """Whether the connection asked about is allowed."""
        return self.by is not None


class CellService(Protocol):
    """The agent as the control API sees it."""

    async def attach(self, request: AttachRequest, *, peer: Peer) -> AttachmentView:
        """All of it is in place and listening, or nothing is. Conflict for a name whose namespace lives."""

    async def detach(self, name: str) -> bool:
        """False if there was none of that name, which is no error."""

    async def attachments(self) -> tuple[AttachmentView, ...]:
        """All, in the order of their names."""

    async def attachment(self, name: str) -> AttachmentView | None:
        """The one of that name."""

    async def status(self) -> Status:
        """The cell now."""

    async def policies(self) -> tuple[Policy, ...]:
        """All that are in force, of files and of the store."""

    async def allow_policy(
        self, source: str, *, to: str, ports: tuple[str, ...], name: str | None, credentials: StoreCredentials | None
    ) -> str:
        """Put one policy into the store, written as on the command line (`ports` as tcp/8080), and return its name.

        Here and below, `credentials` are whose rights the store is changed with: the cell's own for None. InvalidInput where
        the store is not one that takes any.
        """

    async def apply_policies(self, document: str, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        """Put the policies of a YAML document into the store, replacing those of the same names, which are returned."""

    async def delete_policy(self, name: str, *, credentials: StoreCredentials | None) -> bool:
        """Take one out of the store. False if there was none of that name there; InvalidInput for one of a file."""

    async def accept_loss(self, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        """Give up the policies that are held since the store lost its data, on all cells. Names those held here."""

    async def check(self, source: AppName, *, destination: AppName, protocol: policy.Protocol, port: int) -> Verdict:
        """What the policies in force say about a connection."""

    async def sync(self, *, within: float) -> tuple[str, ...]:
        """Wait, `within` seconds at most, until all known at the call is enforced; what is still missing, or nothing."""

    async def metrics(self) -> str:
        """The metrics in Prometheus' exposition format."""

    async def ca(self) -> Shown:
        """The certificates of this cell's authorities; `bundle` is what everything here trusts."""

    async def publish_trust(self, roots: str | None, *, add: bool, credentials: StoreCredentials | None) -> tuple[Summary, ...]:
        """Have all cells trust `roots` (PEM; None: this cell's own) besides their own, in place of or with those of before.

        Returns what the store has now. InvalidInput for what is no root of this trust domain.
        """

    async def cells(self) -> tuple[CellRow, ...]:
        """All cells of the store by name, this one too."""

    async def remove_cell(self, name: str, *, credentials: StoreCredentials | None) -> None:
        """Forget a cell that is gone. Conflict while it is alive, InvalidInput, with the nearest name, where there is none."""
