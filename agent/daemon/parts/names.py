"""The objects behind names: what instances are called, which of them names lead to, and what the store is asked for."""

import contextlib
from dataclasses import dataclass

from agent.attach.asked_routes import AskedRoutes
from agent.attach.name_claims import NameClaims
from agent.daemon.parts.foundation import Foundation
from agent.dns.readiness import Readiness
from agent.identity.names import NamesHeld, Naming
from agent.loop.endpoint_names import EndpointNames
from dataplane.flows.port_looks import PortLooks
from dataplane.flows.served import sees_udp


@dataclass(frozen=True, slots=True)
class NameParts:
    """See each."""

    naming: Naming
    readiness: Readiness
    endpoints: EndpointNames
    asked: AskedRoutes
    claims: NameClaims


def make_name_parts(base: Foundation, stack: contextlib.AsyncExitStack) -> NameParts:
    """What has to be closed is closed with `stack`."""
    config, store = base.config, base.storage.routes
    naming = Naming(config.dns, lambda: NamesHeld(store.routes(), store.claimed_names()))
    wished = config.routes.claim_at_attach
    may_claim = config.store is None if wished is None else wished
    return NameParts(
        naming,
        _readiness(base, stack),
        EndpointNames(naming, cell=config.cell, claims=base.storage.indexes),
        AskedRoutes(store, naming, may_claim=may_claim),
        NameClaims(naming, store),
    )


def _readiness(base: Foundation, stack: contextlib.AsyncExitStack) -> Readiness:
    looks = PortLooks[str]()
    stack.callback(looks.close)
    pins, reserved = base.facts.pins, base.facts.own_ports
    return Readiness(looks, pins=pins, reserved=reserved, elapsed=base.clock.elapsed, sees_udp=sees_udp())
