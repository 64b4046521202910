"""`/v1/explain`: why a connection passes or does not, step by step on its way, from what the agent's parts know already.

Nothing is sent: a reader's request makes no packet.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import web

from agent.cells.tunnel_health import PeerRow
from agent.config.config import Mtls
from agent.control.api.policy_check import asked
from agent.control.errors import answer
from agent.errors import HostRefused
from agent.insight.denied import Denied, Reason, times
from agent.model.attachment import Attachment
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.policy import Protocol
from agent.model.status import Problem
from agent.wording import listed
from dataplane.flows.served import LOOPBACK, PortLook, ServicePort
from dataplane.tables import LOOPBACK_LINK
from dataplane.tunnel_probe import TunnelAnswer

CONCERNING = frozenset({"kernel", "overlay", "cell", "firewall", "envoy", "tags", "identity"})
"""Areas of problems that may stop what policies allow."""


@dataclass(frozen=True, slots=True)
class WayStep:
    """One thing that it depends on. `ok` is None for what does not decide, or is not known here."""

    name: str
    ok: bool | None
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Informants:
    """What the parts are asked. `cell` is this one's name, `pins` the folder of its containers' namespaces."""

    cell: str
    pins: Path
    mtls: Mtls
    check: Callable[[Mapping[str, str]], Awaitable[Mapping[str, object]]]
    instances: Callable[[], Mapping[AppName, list[Endpoint]]]
    attached: Callable[[], Iterable[Attachment]]
    peers: Callable[[], tuple[PeerRow, ...]]
    problems: Callable[[], tuple[Problem, ...]]


class ExplainApi:
    """The handler."""

    def __init__(self, known: Informants, denied: Denied) -> None:
        self._known = known
        self._denied = denied

    def routes(self) -> list[web.RouteDef]:
        """The one address."""
        return [web.get("/v1/explain", self.explain)]

    async def explain(self, request: web.Request) -> web.Response:
        """All steps; `works` is whether none of them stands in the way."""
        query = dict(request.query)
        question, instances = asked(query), self._known.instances()
        ends = [each for each in (question.source, question.to) if isinstance(each, AppName)]
        there = instances.get(question.to, []) if isinstance(question.to, AppName) else []
        elsewhere = sorted({each.cell for each in there} - {self._known.cell})
        steps = [_policy(await self._known.check(query), query, elsewhere=elsewhere)]
        steps += [_instances(app, instances.get(app, [])) for app in ends]
        if question.protocol is not Protocol.ICMP:
            steps += [await self._listener(each, question.protocol.value, question.port) for each in there]
        cells = {each.cell for app in ends for each in instances.get(app, [])} - {self._known.cell}
        steps += [_cell(each) for each in self._known.peers() if each.name in cells]
        if len(ends) == 2:
            steps.append(_encryption(self._known.mtls, question.protocol))
        steps += self._refused(query)
        steps += [
            WayStep("this cell", None, each.what, each.hint) for each in self._known.problems() if each.area in CONCERNING
        ]
        return answer({"works": all(each.ok is not False for each in steps), "steps": steps})

    async def _listener(self, to: Endpoint, protocol: str, port: int) -> WayStep:
        """Whether anything inside takes the call, and where else it would."""
        asked_for = f"{protocol}/{port}"
        if to.cell != self._known.cell:
            return WayStep("listener", None, f"{to.name} runs on {to.cell}, and what listens in it is seen there alone")
        held = next((each for each in self._known.attached() if each.name == to.name), None)
        if held is None:
            return WayStep("listener", None, f"{to.name} is being attached or detached")
        place = ServicePort(self._known.pins / held.name, held.interface, held.address, port, protocol)
        inside = replace(place, interface=LOOPBACK_LINK, address=LOOPBACK)
        try:
            served, alone = await asyncio.to_thread(lambda: (_is_served(place), _is_served(inside)))
        except HostRefused as error:
            return WayStep("listener", None, error.what, error.hint)
        if served:
            return WayStep("listener", True, f"{to.name} serves {asked_for}")
        if alone:
            what = f"{to.name} serves {asked_for} on 127.0.0.1 only, where nobody else reaches it"
            return WayStep("listener", False, what, "have the app listen on 0.0.0.0")
        return WayStep(
            "listener", False, f"nothing in {to.name} serves {asked_for}", "see that the app runs, and on which port"
        )

    def _refused(self, query: Mapping[str, str]) -> Iterator[WayStep]:
        """The last times that this cell refused it, or a tunnel for it or another port."""
        called = (query["port"], "tcp/0") if query["port"].startswith("tcp/") else (query["port"],)
        for pair, tally in self._denied.tallies():
            if (pair.source, pair.to) == (query["from"], query["to"]) and f"{pair.protocol}/{pair.port}" in called:
                last = tally.last.isoformat().replace("+00:00", "Z")
                did = "passed" if pair.reason is Reason.AUDIT else "refused"
                yield WayStep("refused", None, f"{did} here {times(tally.count)}, the last at {last}: {pair.reason}")


def _policy(found: Mapping[str, object], query: Mapping[str, str], *, elsewhere: Sequence[str]) -> WayStep:
    """What `policy check` says, with what nearly allows it. The policy files of cells `elsewhere` are known there alone."""
    source, to, port = query["from"], query["to"], query["port"]
    if found["allowed"]:
        ends = f", until {found['until']}" if found["until"] else ""
        mode = ", in audit alone: it passes, and is recorded as what would be refused" if found["mode"] else ""
        return WayStep(
            "policy", True, f"allowed by {found['by']} ({found['origin']}){ends}{mode}", "; ".join(_texts(found["notices"]))
        )
    near = list(_texts(found["notices"]))
    if ports := _texts(found["ports"]):
        near.append(f"{source} may reach {to} on {listed(ports)}")
    if isinstance(back := found["reverse"], Mapping):
        near.append(f"the other direction is allowed by {back['by']} ({back['origin']})")
    if elsewhere:
        near.append(f"policy files of {listed(elsewhere)} may have one: ask there")
    hint = "; ".join(near) or f"cellnet policy allow {source} {to} {port}"
    return WayStep("policy", False, f"no policy lets {source} reach {to} on {port}", hint)


def _texts(found: object) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, Iterable) else ()


def _instances(app: AppName, found: list[Endpoint]) -> WayStep:
    if not found:
        return WayStep(str(app), False, f"no instance of {app} is attached on any cell", "see 'cellnet apps'")
    places = listed([f"{each.name} on {each.cell} ({each.address})" for each in found])
    waiting = [each.name for each in found if not each.ready]
    if waiting:
        return WayStep(
            str(app), None, f"runs as {places}", f"no name leads to {listed(waiting)}: nothing serves its first port"
        )
    return WayStep(str(app), True, f"runs as {places}")


def _cell(peer: PeerRow) -> WayStep:
    if peer.alive_since is None:
        hint = "its containers may still be reached; see that its agent runs"
        return WayStep(peer.name, None, f"the agent of {peer.name} is not alive", hint)
    if peer.tunnel not in (None, TunnelAnswer.ALL):
        return WayStep(peer.name, False, f"the tunnel to {peer.name} does not answer as it should", "see 'cellnet status'")
    return WayStep(peer.name, True, f"{peer.name} is alive, and its tunnel answers")


def _encryption(mode: Mtls, protocol: Protocol) -> WayStep:
    if protocol is not Protocol.TCP or mode is Mtls.NONE:
        return WayStep("encryption", None, "it goes in plain text")
    return WayStep(
        "encryption", None, "it goes through mutual TLS" + ("" if mode is Mtls.STRICT else " where both cells take tunnels")
    )


def _is_served(place: ServicePort) -> bool:
    look = PortLook(place)
    try:
        return look.is_served()
    finally:
        look.close()
