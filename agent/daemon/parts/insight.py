"""The objects that know what was denied, what flows, and what happened."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from agent.cells.tunnel_mode import TunnelMode
from agent.daemon.parts.foundation import Foundation
from agent.daemon.parts.names import NameParts
from agent.insight.flows.earlier import EarlierFlows
from agent.insight.flows.followed import FollowedFlows
from agent.insight.flows.followers import EventKind, Followers
from agent.insight.flows.looks import FlowLooks
from agent.insight.flows.named import FlowPlace, NamedFlows
from agent.insight.flows.rights_in_force import RightsInForce
from agent.insight.history.history import History
from agent.insight.history.on_disk import HistoryArea, HistoryFile
from agent.insight.history.policy_trail import PolicyTrail
from agent.insight.policy_use import PolicyUse
from agent.insight.refusals.denied import Denial, Denied, Reason
from agent.insight.refusals.later_policies import LaterPolicies
from agent.insight.refusals.noted_packets import NotedPackets, Whereabouts
from agent.insight.refusals.tried_calls import TriedCalls
from agent.insight.refusals.untaken_tunnels import UntakenTunnels
from agent.insight.summaries import Summaries
from agent.insight.whose import Whose
from agent.loop.loop import Reconciler
from agent.loop.reports import TurnReports
from agent.metrics import Metrics
from agent.model.policy import Policy, Protocol
from agent.model.status import Part
from agent.policy.in_force import PoliciesInForce
from agent.policy.parties import Party
from agent.wording import written_moment
from dataplane.flows.event_filter import EventFilter


@dataclass(frozen=True, slots=True)
class InsightParts:
    """See each."""

    denied: Denied
    packets: NotedPackets
    tell_tunnels: Callable[[], Coroutine[None, None, None]]
    followers: Followers
    looks: FlowLooks
    followed: FollowedFlows
    history: History
    summaries: Summaries
    use: PolicyUse
    trail: PolicyTrail
    tried: TriedCalls
    later: LaterPolicies

    def tasks(self) -> tuple[tuple[str, Callable[[], Coroutine[None, None, None]]], ...]:
        """What they do while clients are served, by name."""
        return (
            ("noted_packets", self.packets.run),
            ("untaken_tunnels", self.tell_tunnels),
            ("followed_flows", self.followed.run),
            ("earlier_flows", EarlierFlows(self.looks, self.followed).run),
            ("history", self.history.run),
            ("summaries", self.summaries.run),
        )

    def reporting(self) -> tuple[Part, ...]:
        """Those that have something to say in the status."""
        return (self.packets, self.denied, self.followed, self.history, self.summaries)


def make_untaken(base: Foundation, metrics: Metrics) -> UntakenTunnels:
    """First of them, with what was denied: Envoy is asked what it refuses before there is a loop."""
    denied = Denied(metrics=metrics, now=base.clock.now, elapsed=base.clock.elapsed)
    return UntakenTunnels(denied, TriedCalls(elapsed=base.clock.elapsed), elapsed=base.clock.elapsed)


def make_insight_parts(
    base: Foundation,
    untaken: UntakenTunnels,
    *,
    policies: PoliciesInForce,
    names: NameParts,
    mode: TunnelMode,
    loop: Reconciler,
) -> InsightParts:
    """What the others of them need is there."""

    async def check(source: Party, to: Party, protocol: Protocol, port: int) -> Policy | None:
        return await policies.check(source, to=to, protocol=protocol, port=port)

    facts, clock, cell = base.facts, base.clock, base.config.cell
    whose = Whose(names.endpoints.app_at, base.storage.tags.tags)
    names_of = base.kernel.known_names.names_of
    where = Whereabouts(
        facts.overlay, facts.subnet, names.endpoints.app_at, whose, check, lambda: not mode.mutual_tls().plain, names_of
    )  # fmt: skip
    rights = RightsInForce(check, in_force=policies.in_force, names_of=names_of)
    place, followers = FlowPlace(facts.overlay, facts.subnet, loop.applied), Followers()
    named = NamedFlows(place, whose, rights, tried=untaken.tried, now=clock.seconds)
    passes = EventFilter(facts.overlay, base.config.dns.address)
    followed = FollowedFlows(followers, named, place, cell=cell, passes=passes, now=clock.now)
    loop.reports.subscribe(followed.cut)
    untaken.denied.subscribe(partial(_tell_refused, followers, cell))
    looks = FlowLooks(named, place, now=clock.now, elapsed=clock.elapsed)
    packets, tell_tunnels = NotedPackets(untaken, where), partial(untaken.run, check, where.app_at)
    history, store = _history(base, loop.reports), base.storage.summaries
    use = PolicyUse(
        base.config.paths.policy_use, looks, in_force=policies.in_force, allowing=policies.allowing,
        names_of=names_of, now=clock.seconds, elapsed=clock.elapsed,
    )  # fmt: skip
    summaries = Summaries(store, looks, untaken.denied, now=clock.now, elapsed=clock.elapsed, beside=use.look)
    trail = PolicyTrail(base.storage.trail, history, cell, clock.now)
    return InsightParts(
        untaken.denied, packets, tell_tunnels, followers, looks, followed, history, summaries, use, trail, untaken.tried,
        LaterPolicies(check),
    )  # fmt: skip


def _history(base: Foundation, reports: TurnReports) -> History:
    made = History(HistoryFile(base.config.paths.events), now=base.clock.now, elapsed=base.clock.elapsed)
    reports.repairs.follow(partial(made.add, HistoryArea.REPAIRS))
    reports.cuts.follow(partial(made.add, HistoryArea.CUTS))
    return made


def _tell_refused(followers: Followers, cell: str, denial: Denial) -> None:
    view = {"at": written_moment(denial.at)}
    kind = EventKind.AUDITED if denial.pair.reason is Reason.AUDIT else EventKind.REFUSED
    followers.tell(kind, denial.pair, lambda: {**view, **denial.view(cell=cell)})
