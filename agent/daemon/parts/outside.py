"""The objects behind the world outside: what is never outside, and what that depends on."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from agent.config.config import Verdict
from agent.config.current import CurrentConfig
from agent.control.api.policy.check import OutsideDefaults
from agent.dns.upstreams import configured
from agent.loop.never_outside import NeverOutside
from agent.model.outside import Inside
from agent.store.endpoint_addresses import EndpointAddresses
from host.name_lookups import NameLookups


@dataclass(frozen=True, slots=True)
class OutsideParts:
    """See each."""

    endpoints: EndpointAddresses
    never: NeverOutside
    defaults: OutsideDefaults


async def make_outside_parts(current: CurrentConfig, *, elapsed: Callable[[], float]) -> OutsideParts:
    """With the store's addresses, as far as they are found."""
    config = current.config
    hosts = () if config.store is None else (each.host for each in config.store.endpoints)
    endpoints = EndpointAddresses(hosts, elapsed=elapsed, resolve=NameLookups().addresses)
    await endpoints.look()

    def servers() -> frozenset[IPv4Address]:
        return frozenset(each.address for each in configured(current.config) if isinstance(each.address, IPv4Address))

    never = NeverOutside(Inside.of(config), store=lambda: endpoints.all, servers=servers)
    return OutsideParts(endpoints, never, _defaults(current, never))


def _defaults(current: CurrentConfig, never: NeverOutside) -> OutsideDefaults:
    """What `policy check` goes by beside policies."""
    config = current.config
    return OutsideDefaults(
        Inside.of(config),
        never.why,
        source="agent.yaml" if config.file is None else str(config.file.path),
        egress_allowed=config.egress.default is Verdict.ALLOW,
        ingress_allowed=lambda: current.config.ingress.default is Verdict.ALLOW,
    )
