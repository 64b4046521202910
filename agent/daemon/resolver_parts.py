"""The objects behind the cell's dnsmasq, which is a process of its own: what it asks of the outside, and whether it answers."""

from dataclasses import dataclass
from functools import partial

from agent.daemon.foundation import Foundation
from agent.dns.liveness import ResolverFacts, ResolverLiveness
from agent.dns.process import reread_by_dnsmasq, running_dnsmasq, what_keeps_dns
from agent.dns.upstreams import Upstreams
from agent.loop.names_table import NamesTable


@dataclass(frozen=True, slots=True)
class ResolverParts:
    """See each."""

    upstreams: Upstreams
    liveness: ResolverLiveness


def make_resolver_parts(base: Foundation, names: NamesTable) -> ResolverParts:
    """`names` is what dnsmasq answers with."""
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
    return ResolverParts(upstreams, ResolverLiveness(facts))
