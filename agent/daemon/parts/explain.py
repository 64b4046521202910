"""Who knows what of a connection's way: the parts that `explain` asks, in the order of the way."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address

from agent.config.config import Mtls
from agent.control.api.apps import AppsApi
from agent.control.api.policy.check import PolicyCheck
from agent.daemon.parts.foundation import Foundation
from agent.daemon.parts.parts import Parts
from agent.identity.leaf import validity
from agent.insight.explain.answers import CellAnswers
from agent.insight.explain.explanation import Explanation
from agent.insight.explain.instances import CellSteps, InstanceSteps
from agent.insight.explain.interfaces import InterfaceSteps
from agent.insight.explain.kernel import KernelFacts, KernelSteps
from agent.insight.explain.listener import ListenerSteps
from agent.insight.explain.other_cells import OtherCells
from agent.insight.explain.outside import OutsideFacts, OutsideSteps
from agent.insight.explain.policies import PolicySteps
from agent.insight.explain.refusals import ProblemSteps, RefusalSteps
from agent.insight.explain.seen_here import SeenHere
from agent.insight.explain.told import ENCRYPTION, INTERFACE, KERNEL, LISTENER, OUTSIDE
from agent.insight.explain.tries import Tries, TryPlace
from agent.insight.explain.tunnels import TunnelFacts, TunnelSteps
from agent.insight.explain.way import AskedWay, Informant
from agent.model.names import AppName
from agent.model.outside import HostPattern, Inside
from agent.model.status import Problem
from agent.store.protocols import QuestionStore
from dataplane.firewall.backends.driver import FirewallTables


def make_explanation(
    base: Foundation, parts: Parts, *, apps: AppsApi, check: PolicyCheck, problems: Callable[[], Iterable[Problem]]
) -> Explanation:
    """Once the parts are there. `problems` are those of the status."""
    cell = base.config.cell
    informants: tuple[tuple[str, Informant], ...] = (
        ("policy", _policy(base, parts, check)),
        ("instances", InstanceSteps(partial(_names, parts))),
        ("cells", CellSteps(parts.tunnels.peers)),
        *_seen_here(base, parts),
        ("refused", RefusalSteps(parts.insight.denied)),
        ("this cell", ProblemSteps(problems)),
    )
    return Explanation(apps.instances, informants, others=OtherCells(_questions(base), cell=cell))


def answering_tasks(base: Foundation, parts: Parts) -> tuple[tuple[str, Callable[[], Coroutine[None, None, None]]], ...]:
    """None on a cell that shares its store with no other."""
    store, cell = _questions(base), base.config.cell
    if store is None:
        return ()
    here = SeenHere(_seen_here(base, parts), cell=cell, endpoints=base.storage.cells.endpoints)
    return (("answers", CellAnswers(store, known=here.known).run),)


def _seen_here(base: Foundation, parts: Parts) -> tuple[tuple[str, Informant], ...]:
    """What of a way its ends' own cells alone see."""
    cell = base.config.cell
    return (
        (KERNEL, KernelSteps(_kernel(base, parts), cell=cell)),
        (INTERFACE, InterfaceSteps(parts.loop.made, cell=cell)),
        (ENCRYPTION, TunnelSteps(_tunnels(base, parts))),
        (LISTENER, ListenerSteps(cell=cell, pins=base.facts.pins, attached=parts.attaching.attached)),
        (OUTSIDE, OutsideSteps(_outside(base, parts))),
    )


def _questions(base: Foundation) -> QuestionStore | None:
    return None if base.storage.shared is None else base.storage.shared.questions


def make_tries(base: Foundation, parts: Parts) -> Tries:
    """What calls for real."""
    config = base.config
    place = TryPlace(config.cell, base.facts.pins, config.dns.address, lambda: config.tls.mtls is not Mtls.NONE)
    return Tries(place, known=partial(_addresses, base), elapsed=base.clock.elapsed, calls=parts.insight.tried)


def _policy(base: Foundation, parts: Parts, check: PolicyCheck) -> PolicySteps:
    names_of, unsettled = base.kernel.known_names.names_of, parts.policies.unsettled_files
    return PolicySteps(
        check=check.answer, unsettled=unsettled, cut_off=partial(_cut_off, base), names_of=names_of,
        addresses=partial(_addresses, base),
    )  # fmt: skip


def _cut_off(base: Foundation) -> str:
    shared = base.storage.shared
    problem = None if shared is None else shared.mirror.problem
    return "" if problem is None else problem.what


def _names(parts: Parts, app: AppName, asked: Iterable[str]) -> tuple[str, ...]:
    naming = parts.names.naming
    return naming.of(app, asked, naming.held())


def _kernel(base: Foundation, parts: Parts) -> KernelFacts:
    async def read() -> FirewallTables:
        return await asyncio.wrap_future(base.kernel.rules())

    async def allowed(way: AskedWay) -> bool:
        found = await parts.policies.check(way.source, to=way.to, protocol=way.protocol, port=way.port)
        return found is not None

    return KernelFacts(parts.loop.made, read, base.storage.tags.tags, allowed)


def _tunnels(base: Foundation, parts: Parts) -> TunnelFacts:
    config = base.config

    async def modes() -> Mapping[str, Mtls]:
        found = {each.record.name: each.record.mtls for each in await base.storage.cells.cells()}
        # a strict cell refuses what is plain from its start on, before it has told the others
        return found | ({config.cell: Mtls.STRICT} if config.tls.mtls is Mtls.STRICT else {})

    def hung() -> str:
        problem = parts.liveness.problem
        return "" if problem is None else problem.what

    def not_after(name: str) -> datetime | None:
        leaf = parts.leaves.all().get(name)
        return None if leaf is None else validity(leaf).not_after

    return TunnelFacts(
        cell=config.cell,
        tls_port=base.facts.tls_port,
        modes=modes,
        not_after=not_after,
        now=base.clock.now,
        connected=lambda: parts.ads.status().connected,
        hung=hung,
        is_late=parts.loop.late_rights.is_late,
    )


def _outside(base: Foundation, parts: Parts) -> OutsideFacts:
    return OutsideFacts(
        cell=base.config.cell,
        inside=Inside.of(base.config),
        addresses=partial(_addresses, base),
        leads_to=parts.published.leads_to,
        limited=parts.limits.in_words,
        own=partial(own_addresses, base),
    )


async def own_addresses(base: Foundation) -> Collection[IPv4Address]:
    """Those of this host."""
    return await asyncio.wrap_future(base.kernel.own_addresses())


def _addresses(base: Foundation, host: HostPattern) -> Collection[IPv4Address]:
    return base.kernel.known_names.addresses((str(host),))
