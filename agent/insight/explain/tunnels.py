"""How TCP between containers goes: in plain text, to where TLS ends, or through tunnels; and what that depends on."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from agent.config.config import Mtls
from agent.insight.explain.way import AskedWay, WayStep
from agent.model.cell import Endpoint
from agent.model.policy import Protocol
from agent.wording import written_moment

PLAIN = WayStep("encryption", None, "it goes in plain text")
GUIDE = "docs/mutual-tls.md has the order in which cells change: accept everywhere, then strict"


@dataclass(frozen=True, slots=True)
class TunnelFacts:
    """What is asked: how the containers of each cell take TCP, when a container's certificate here ends, the time (UTC),
    whether Envoy is connected, why it hangs (empty where it does not), and whether it goes by older rights for a container."""

    cell: str
    tls_port: int
    modes: Callable[[], Awaitable[Mapping[str, Mtls]]]
    not_after: Callable[[str], datetime | None]
    now: Callable[[], datetime]
    connected: Callable[[], bool]
    hung: Callable[[], str]
    is_late: Callable[[IPv4Address], bool]


class TunnelSteps:
    """Of TCP between apps."""

    def __init__(self, facts: TunnelFacts) -> None:
        self._facts = facts

    async def steps(self, way: AskedWay) -> Iterable[WayStep]:
        """How it goes from cell to cell, certificates of the containers here, and Envoy."""
        if not way.is_between_apps:
            return ()
        if way.protocol is not Protocol.TCP:
            return (PLAIN,)
        if way.port == self._facts.tls_port:
            steps = [WayStep("encryption", None, f"the caller speaks TLS to port {way.port}, where Envoy ends it")]
            return [*steps, *self._certificates(way.called), *self._envoy(way.called)]
        modes = await self._facts.modes()
        ways = sorted({(one.cell, other.cell) for one in way.callers for other in way.called})
        own = modes.get(self._facts.cell, Mtls.NONE)
        steps = [_between(one, other, modes) for one, other in ways] or [_alone(own)]
        if own is Mtls.NONE or all(each == PLAIN for each in steps):
            return dict.fromkeys(steps)
        ends = {each.address: each for each in (*way.callers, *way.called)}.values()
        return [*dict.fromkeys(steps), *self._certificates(ends), *self._envoy(way.called)]

    def _certificates(self, ends: Iterable[Endpoint]) -> Iterator[WayStep]:
        """Of the containers here; other cells' are known there alone."""
        for each in ends:
            if each.cell == self._facts.cell:
                yield self._certificate(each.name)

    def _certificate(self, name: str) -> WayStep:
        ends, now = self._facts.not_after(name), self._facts.now()
        if ends is None:
            return WayStep("certificate", False, f"{name} has no certificate", "status says why it gets none")
        words = written_moment(ends)
        if ends <= now:
            hint = "status says why it is not renewed; see also that the clocks of the cells agree"
            return WayStep("certificate", False, f"the certificate of {name} ended at {words}", hint)
        return WayStep("certificate", True, f"that of {name} holds until {words}")

    def _envoy(self, called: Iterable[Endpoint]) -> Iterator[WayStep]:
        if hung := self._facts.hung():
            yield WayStep("Envoy", False, hung, "restart it: `systemctl restart cellnet-envoy`")
        elif not self._facts.connected():
            what = "Envoy is not connected: no call passes while it does not run"
            yield WayStep("Envoy", False, what, "`cellnet up` or systemd starts it again; see its log")
        for each in called:
            if each.cell == self._facts.cell and self._facts.is_late(each.address):
                what = f"Envoy has not taken yet what may reach {each.name} through tunnels"
                yield WayStep("Envoy", False, what, "see Envoy's log, and 'cellnet status'")


def _alone(mode: Mtls) -> WayStep:
    """By this cell's mode, where one end runs nowhere."""
    if mode is Mtls.NONE:
        return PLAIN
    where = "" if mode is Mtls.STRICT else " where both cells take tunnels"
    return WayStep("encryption", None, f"it goes through mutual TLS{where}")


def _between(one: str, other: str, modes: Mapping[str, Mtls]) -> WayStep:
    """From the containers of one cell to those of another, or of the same."""
    sends, takes = modes.get(one, Mtls.NONE), modes.get(other, Mtls.NONE)
    if takes is Mtls.STRICT and sends is Mtls.NONE:
        what = f"{other} takes TCP through tunnels only, and {one} sends it in plain text"
        return WayStep("encryption", False, what, GUIDE)
    if sends is Mtls.STRICT and takes is Mtls.NONE:
        what = f"{one} sends TCP through tunnels only, and {other} takes none"
        return WayStep("encryption", False, what, GUIDE)
    if Mtls.NONE in (sends, takes):
        return PLAIN
    hint = "Envoy takes each call, and closes one that is refused, or that nothing serves, before any byte"
    return WayStep("encryption", None, "it goes through mutual TLS", hint)
