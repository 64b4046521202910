"""Which instances names lead to: those that serve the first of their ports, and those that have none.

What serves is a socket in the container's own namespace that would get the call (dataplane/flows/served.py); nothing is
dialled. A container whose look does not come back holds up no other.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import log
from agent.complaint import Complaints
from agent.dns.service_state import LONGEST_PAUSE, Serving
from agent.model.app_port import UDP, AppPort
from agent.model.attachment import Attachment
from agent.model.status import Part, Problem
from agent.pacing import wait_for_event
from dataplane.flows.port_looks import PortLooks
from dataplane.flows.served import ServicePort
from host.errors import HostRefused

TOGETHER = (
    LONGEST_PAUSE / 8
)  # seconds by which a look may come early, so that all that serve are looked at a few times a second


@dataclass(frozen=True, slots=True)
class NamesRow:
    """How many instances here names lead to, and which are not served yet, each with its port."""

    ready: int
    waiting: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WatchedInstance:
    """One that is looked at."""

    name: str
    port: AppPort
    place: ServicePort


class Readiness(Part):
    """`pins` is the folder of pinned namespaces, `reserved` are ports of Envoy's, which are no app's; `sees_udp`: whether the
    kernel shows sockets of UDP; `elapsed` is a clock in seconds that never jumps.
    """

    def __init__(
        self,
        looks: PortLooks[str],
        *,
        pins: Path,
        reserved: Collection[int],
        elapsed: Callable[[], float],
        sees_udp: bool = True,
    ) -> None:
        self._looks = looks
        self._pins = pins
        self._reserved = frozenset(reserved)
        self._elapsed = elapsed
        self._sees_udp = sees_udp
        self._here: tuple[Attachment, ...] = ()
        self._watched: Mapping[str, WatchedInstance] = {}  # by the instance's GUID: another may get its name and address
        self._serving: dict[str, Serving] = {}
        self._ready: tuple[Attachment, ...] | None = ()
        self._is_withheld: Callable[[Attachment], bool] = _is_nobody
        self._changed = asyncio.Event()
        self._complaints = Complaints(log.get("readiness"), failed="cannot_see_ports")

    def problems(self) -> Iterable[Problem]:
        """What cannot be looked at."""
        for guid, each in self._watched.items():
            complaint = self._complaints.standing.get(guid)
            if complaint is not None:
                yield Problem("dns", f"{each.name}: cannot see whether it is served: {complaint.what}", complaint.hint)
        if not self._sees_udp and any(port is not None and port.protocol == UDP for port in map(self._first_port, self._here)):
            what = "this kernel does not show sockets of UDP: names lead to apps of UDP from the attach on"
            yield Problem("dns", what, "load its module udp_diag, then restart the agent")

    async def rows(self) -> Mapping[str, object]:
        """`names`."""
        waiting = [each for guid, each in self._watched.items() if not self._serving[guid].ready]
        shown = tuple(f"{each.name} ({each.port})" for each in waiting)
        return {"names": NamesRow(ready=len(self.ready()), waiting=shown)}

    def is_ready(self, attachment: Attachment) -> bool:
        """Whether names lead to it, which is in place."""
        serving = self._serving.get(attachment.guid)
        return (serving is None or serving.ready) and not self._is_withheld(attachment)

    def ready(self) -> tuple[Attachment, ...]:
        """Those that names lead to. The same object as long as nothing changed."""
        if self._ready is None:
            self._ready = tuple(filter(self.is_ready, self._here))
        return self._ready

    def withhold(self, is_withheld: Callable[[Attachment], bool]) -> None:
        """From now on names lead to none of these, whatever they serve."""
        self._is_withheld, self._ready = is_withheld, None

    def follow(self, here: tuple[Attachment, ...]) -> None:
        """These are in place from now on, and no others. Cheap where nothing changed."""
        if here == self._here:
            return
        self._here, self._ready, now = here, None, self._elapsed()
        watched = ((each.guid, self._watch(each)) for each in here)
        self._watched = {guid: each for guid, each in watched if each is not None}
        self._serving = {guid: self._serving.get(guid) or Serving.begun(now) for guid in self._watched}
        self._complaints.over_for_all_but(self._watched)
        self._changed.set()

    def _watch(self, each: Attachment) -> WatchedInstance | None:
        """None for one that is ready without being looked at."""
        port = self._first_port(each)
        if port is None or (port.protocol == UDP and not self._sees_udp):
            return None
        place = ServicePort(self._pins / each.name, each.interface, each.address, port.number, port.protocol)
        return WatchedInstance(each.name, port, place)

    def _first_port(self, each: Attachment) -> AppPort | None:
        return next((port for port in each.ports if port.protocol == UDP or port.number not in self._reserved), None)

    def first_look(self, here: tuple[Attachment, ...]) -> None:
        """At the start, before the first turn: what an earlier agent has named and is served keeps its names. Blocks."""
        self.follow(here)
        self._take(self._looks.look(self._places(self._watched), keep=self._watched.keys()), asked=self._watched)

    async def run(self, on_change: Callable[[], None]) -> None:
        """Look again and again. Ends only by cancellation."""
        while True:
            await wait_for_event(self._changed, within=self._due_in())
            self._changed.clear()
            due = [guid for guid, each in self._serving.items() if self._is_due(each)]
            found = await asyncio.to_thread(self._looks.look, self._places(due), keep=frozenset(self._watched))
            if self._take(found, asked=due):
                on_change()

    def _due_in(self) -> float | None:
        due = min((each.due for each in self._serving.values()), default=None)
        return None if due is None else max(due - self._elapsed(), 0.0)

    def _is_due(self, each: Serving) -> bool:
        early = TOGETHER if each.ready and each.missed is None else 0.0
        return each.due <= self._elapsed() + early

    def _places(self, guids: Iterable[str]) -> dict[str, ServicePort]:
        return {guid: self._watched[guid].place for guid in guids}

    def _take(self, found: Mapping[str, bool | HostRefused], *, asked: Iterable[str]) -> bool:
        """Whether names lead to others than before."""
        now, changed = self._elapsed(), False
        for guid in asked:
            before, result = self._serving.get(guid), found.get(guid)
            if before is None or (result is None and guid not in self._looks.stuck):
                continue  # gone meanwhile, or behind one that is stuck: looked at next
            self._complain(guid, result)
            after = before.after(result, now=now) if isinstance(result, bool) else before.unseen(now=now)
            self._serving[guid] = after
            changed |= after.ready != before.ready
        if changed:
            self._ready = None
        return changed

    def _complain(self, guid: str, result: bool | HostRefused | None) -> None:
        if isinstance(result, bool):
            self._complaints.over(key=guid)
        else:
            self._complaints.about(result or UNANSWERED, key=guid, name=self._watched[guid].name)


def _is_nobody(_attachment: Attachment) -> bool:
    return False


UNANSWERED = HostRefused("its namespace does not answer", hint="what does root inside do to it?")
