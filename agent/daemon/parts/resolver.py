"""The objects behind the cell's dnsmasq and the hop, which are processes of their own: what they ask of the outside, whether
dnsmasq answers, and what the hop may ask for.
"""

from dataclasses import dataclass
from functools import partial

from agent.config.accounts import hop_account
from agent.control.socket import listening
from agent.daemon.parts.foundation import Foundation
from agent.dns.asked_names import AskedNames, AskedNamesFacts
from agent.dns.hop_process import what_keeps_hop
from agent.dns.liveness import ResolverFacts, ResolverLiveness
from agent.dns.process import reread_by_dnsmasq, running_dnsmasq, what_keeps_dns
from agent.dns.upstreams import Upstreams
from agent.loop.loop import Reconciler


@dataclass(frozen=True, slots=True)
class ResolverParts:
    """See each."""

    upstreams: Upstreams
    liveness: ResolverLiveness
    asked: AskedNames


def make_resolver_parts(base: Foundation, loop: Reconciler) -> ResolverParts:
    """`loop` has the names that dnsmasq answers with, and the state that the hop's questions are judged by."""
    names = loop.names
    config, address = base.config, base.config.dns.address
    upstreams = Upstreams(config, reread=partial(reread_by_dnsmasq, config))
    facts = ResolverFacts(
        address,
        announce=lambda name: names.announce(name, address),
        instances=lambda: names.published,
        upstreams=lambda: upstreams.choice,
        running=partial(running_dnsmasq, config),
        obstacle=partial(what_keeps_dns, config),
        clock=base.clock.elapsed,
    )
    return ResolverParts(upstreams, ResolverLiveness(facts), _asked_names(base, loop, upstreams))


def _asked_names(base: Foundation, loop: Reconciler, upstreams: Upstreams) -> AskedNames:
    config, file, known = base.config, base.names_file, base.kernel.known_names
    facts = AskedNamesFacts(
        loop.applied,
        obstacle=lambda: what_keeps_hop(config, servers=upstreams.choice.asked),
        listening=lambda: listening(config.paths.hop_socket, readers=hop_account(config).pw_gid),
        uid=lambda: hop_account(config).pw_uid,
        keep=lambda: file.begin(known.all()) if file.is_long else None,
        on_repair=loop.reports.add_repair,
        wanted_since=lambda: loop.hop_calls.since,
        clock=base.clock.elapsed,
    )
    return AskedNames(base.kernel, facts)
