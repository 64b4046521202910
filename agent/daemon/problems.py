"""What an operator should mend now, gathered for `status`. Pure: each source is looked at, nothing is asked or changed."""

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address

from agent.control.service import Problem
from agent.errors import CellnetError, HostRefused, Unavailable
from agent.identity.leaves import Leaves
from agent.loop.turns import TurnReport
from agent.model.attachment import Attachment
from agent.model.cell import Cell
from agent.policy.in_force import PoliciesInForce
from agent.policy.tags_in_use import TagsInUse
from dataplane.envoy.ads import EnvoyStatus
from dataplane.tunnel_probe import TunnelAnswer

FEW = 3  # cells that are named
CONTESTED_JUMPS = Problem(
    "firewall",
    "somebody keeps putting a rule that can accept before our jump: what it accepts escapes the policies",
    "iptables -S FORWARD and -S INPUT show it; have that program insert behind the jump to CELLNET-FORWARD",
)


def problems(
    *,
    report: TurnReport,
    contested: bool,
    envoy: EnvoyStatus,
    closed: Collection[IPv4Address],
    policies: PoliciesInForce,
    leaves: Leaves,
    tagging: TagsInUse,
    attachments: tuple[Attachment, ...],
    going: Collection[str],
    database: HostRefused | None,
    store: Iterable[Problem],
    disks: Iterable[Problem],
    hung: Unavailable | None,
    strangers: tuple[int, ...],
    mass_loss: Unavailable | None,
    underlay: HostRefused | None,
    announcement: CellnetError | None,
    tunnels: Iterable[tuple[Cell, TunnelAnswer]],
) -> tuple[Problem, ...]:
    """All of them, the gravest area first; what two areas tell in the same words only once."""
    found = (
        *_kernel(report, attachments, going=going),
        *disks,
        *_told("store", database),
        *store,
        *_told("store", mass_loss),
        *_overlay(report, underlay=underlay, announcement=announcement, tunnels=tunnels),
        *([CONTESTED_JUMPS] if contested else []),
        *_envoy(envoy),
        *_told("envoy", hung),
        *_closed(closed, attachments),
        *(Problem("policies", str(each)) for each in policies.problems()),
        *([] if tagging.problem is database else _told("tags", tagging.problem)),
        *(
            Problem("identity", f"no new certificate for {name or 'the cell'}: {what}")
            for name, what in leaves.failures.items()
        ),
        *(Problem("identity", what, hint) for what, hint in leaves.problems()),
        *(
            Problem("lock", f"uid {uid} holds a name of the agent's lock", "see ss -xlp | grep cellnet-agent")
            for uid in strangers
        ),
    )
    unique: dict[str, Problem] = {}
    for each in found:
        unique.setdefault(each.what, each)
    return tuple(unique.values())


def _kernel(report: TurnReport, attachments: tuple[Attachment, ...], *, going: Collection[str]) -> Iterator[Problem]:
    if report.problem is not None:
        yield Problem("kernel", report.problem.what, report.problem.hint)
    names = {held.address: held.name for held in attachments}
    for address, error in report.failures.items():
        yield Problem("kernel", f"{names.get(address, address)}: {error.what}", error.hint)
    for name in sorted(going):
        yield Problem("kernel", f"'{name}' is not wholly detached yet", "see the agent's log; it goes on trying")


def _overlay(
    report: TurnReport,
    *,
    underlay: HostRefused | None,
    announcement: CellnetError | None,
    tunnels: Iterable[tuple[Cell, TunnelAnswer]],
) -> Iterator[Problem]:
    yield from _told("overlay", report.overlay)
    yield from _told("overlay", underlay)
    if not isinstance(announcement, Unavailable):  # that etcd does not answer, the store tells
        yield from _told("cell", announcement)
    yield from of_tunnels(tunnels)


def of_tunnels(failing: Iterable[tuple[Cell, TunnelAnswer]]) -> Iterator[Problem]:
    """One for each way to fail, however many fail so: it is one network that they have in common."""
    words = {
        TunnelAnswer.NONE: (
            "without an answer, though their agents are alive",
            "UDP to overlay.port (4789) must pass between cells, both ways; overlay.port and overlay.vni are the same on all",
        ),
        TunnelAnswer.ONLY_SMALL: (
            "that lose packets of full size",
            "the network between the cells carries less than the MTU of underlay.interface says: set overlay.mtu on all cells",
        ),
    }
    found = list(failing)
    for kind, (what, hint) in words.items():
        names = [f"{cell.record.name} ({cell.record.underlay})" for cell, answer in found if answer is kind]
        if names:
            shown = ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
            yield Problem("overlay", f"tunnels {what}: {shown}", hint)


def _envoy(envoy: EnvoyStatus) -> Iterator[Problem]:
    if not envoy.connected:
        yield Problem(
            "envoy", "Envoy is not connected: no TLS, no new attachments", "start it with `cellnet envoy`, see its log"
        )
    for key, words in envoy.refused.items():
        yield Problem("envoy", f"Envoy refused {key}: {words}")


def _closed(closed: Collection[IPv4Address], attachments: tuple[Attachment, ...]) -> Iterator[Problem]:
    for held in attachments:
        if held.address in closed:
            hint = "Envoy is told to open it again; if this stays, see Envoy's log, and `ss -ltn` inside"
            yield Problem("envoy", f"{held.name}: its TLS port is not open, though Envoy has it", hint)


def _told(area: str, error: CellnetError | None) -> Iterator[Problem]:
    if error is not None:
        yield Problem(area, error.what, error.hint)
