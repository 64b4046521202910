"""What clients changed through the API, and what they were refused, told to the history: who, what, and why not.

Nothing of a request's body is told but names that a handler gives: there may be secrets in it.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from agent.insight.history.on_disk import Caller, HistoryArea
from agent.model.peer import Peer
from agent.wording import listed
from host.errors import HintedError

NAMES: Final = web.RequestKey("names", tuple)
"""Where a handler leaves what it has changed, if the address does not say it."""
LONGEST_COMMAND: Final = 15  # characters, as the kernel keeps it
MOST_NAMES: Final = 20  # of one entry


class Tell(Protocol):
    """`History.add`."""

    def __call__(self, area: HistoryArea, what: str, *, by: Caller | None = None) -> None:
        """One more entry."""


TOLD: Final[Mapping[tuple[str, str], tuple[HistoryArea, str]]] = {
    ("POST", "/v1/policies/allow"): (HistoryArea.POLICIES, "policy put into the store: {}"),
    ("POST", "/v1/policies/apply"): (HistoryArea.POLICIES, "policies put into the store: {}"),
    ("POST", "/v1/policies/accept-loss"): (HistoryArea.POLICIES, "lost policies given up: {}"),
    ("PUT", "/v1/policies/{name}"): (HistoryArea.POLICIES, "policy put into the store: {}"),
    ("DELETE", "/v1/policies/{name}"): (HistoryArea.POLICIES, "policy deleted from the store: {}"),
    ("PUT", "/v1/routes/{host}"): (HistoryArea.ROUTES, "route mapped: {}"),
    ("DELETE", "/v1/routes/{host}"): (HistoryArea.ROUTES, "route unmapped: {}"),
    ("POST", "/v1/ca/trust"): (HistoryArea.CERTIFICATES, "roots published in the store"),
    ("POST", "/v1/ca/rotation"): (HistoryArea.CERTIFICATES, "step of a rotation of the root"),
    ("DELETE", "/v1/cells/{name}"): (HistoryArea.CELLS, "cell removed from the store: {}"),
    ("PUT", "/v1/spaces/{org}/{space}"): (HistoryArea.AGENT, "apps of a space declared: {}"),
    ("POST", "/v1/config/reload"): (HistoryArea.AGENT, "configuration read again"),
    ("POST", "/v1/drain"): (HistoryArea.AGENT, "drain begun"),
    ("DELETE", "/v1/drain"): (HistoryArea.AGENT, "drain ended"),
}
"""What is told whether it was done or refused."""
REFUSED: Final[Mapping[tuple[str, str], tuple[HistoryArea, str]]] = {
    ("PUT", "/v1/attachments/{name}"): (HistoryArea.ATTACH, "attach: {}"),
    ("POST", "/v1/attachments"): (HistoryArea.ATTACH, "attach under a name of the agent's"),
    ("DELETE", "/v1/attachments/{name}"): (HistoryArea.ATTACH, "detach: {}"),
    ("PUT", "/v1/containers/{id}/{interface}"): (HistoryArea.ATTACH, "attach of an engine's container: {}"),
    ("DELETE", "/v1/containers/{id}/{interface}"): (HistoryArea.ATTACH, "detach of an engine's container: {}"),
    ("PUT", "/v1/reservations/{name}"): (HistoryArea.ATTACH, "reservation: {}"),
    ("DELETE", "/v1/reservations/{name}"): (HistoryArea.ATTACH, "release of a reservation: {}"),
}
"""What comes too often to be told where it is done."""


def tell_of(request: web.Request, peer: Peer, *, came_to: web.StreamResponse | Exception, tell: Tell) -> None:
    """Once a request that may change something has come to its end: an answer, or an error that becomes one."""
    why = _refusal(came_to)
    resource = request.match_info.route.resource
    key = (request.method, "" if resource is None else resource.canonical)
    if key not in TOLD and (why is None or key not in REFUSED):
        return
    area, words = TOLD.get(key) or REFUSED[key]
    names = request[NAMES] if NAMES in request else tuple(request.match_info.values())
    done = words.format(listed(names, most=MOST_NAMES)) if names else words.removesuffix(": {}")
    tell(area, done if why is None else f"refused, {done}: {why}", by=caller(peer))


def caller(peer: Peer) -> Caller:
    """The process at the other end, which waits for its answer; without a name where it has ended or is not visible."""
    command = ""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{peer.pid}/comm").read_text(errors="replace").strip()[:LONGEST_COMMAND]
    if peer.process is None or not peer.process.lives or not command.isprintable():
        command = ""  # the pid may be another's by now
    return Caller(peer.uid, peer.pid, command)


def _refusal(came_to: web.StreamResponse | Exception) -> str | None:
    if isinstance(came_to, HintedError):
        return came_to.what
    if isinstance(came_to, web.StreamResponse):
        return None if came_to.status < 400 else "it is not there" if came_to.status == 404 else came_to.reason
    return f"{type(came_to).__name__} in the agent"
