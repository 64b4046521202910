"""Making a plan true: the one place that knows the order of effects, with the reason on each step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from typing import NamedTuple, TypeAlias

from dataplane.detachment import reset_remote_connections
from dataplane.firewall.backends.driver import Firewall
from dataplane.netlink import addresses, interior, link_rates, links, neighbours, overlay, routes
from dataplane.plan import Plan
from dataplane.sets.ipset import MarkSet
from dataplane.sets.names import NameSets
from dataplane.sets.outside import OutsideSets
from dataplane.tables import (
    LIMIT_SETS,
    TAG_MASK,
    TAGS_SET,
    TUNNEL_LINK,
    VTEPS_SET,
    WHOLE_MARK,
    Tables,
    host_interface,
    is_of_links,
    shaper_interface,
)
from host import sysctl
from host.errors import HostRefused, Unexpected, all_refused
from host.netlink.messages import NETLINK_ROUTE
from host.netlink.socket import NetlinkSocket, connect

Failures: TypeAlias = dict[IPv4Address, HostRefused]


class Sockets(NamedTuple):
    """What tables are read and written through, in one namespace and by one thread."""

    route: NetlinkSocket
    tags: MarkSet
    senders: MarkSet
    outside: OutsideSets
    limited: OutsideSets
    names: NameSets

    @classmethod
    def connected(cls, names: NameSets) -> "Sockets":
        """Those of the namespace that the calling thread is in; `names` are of the same, and of all threads."""
        tags, senders = MarkSet(TAGS_SET, mask=TAG_MASK), MarkSet(VTEPS_SET, mask=WHOLE_MARK)
        limited = OutsideSets(LIMIT_SETS, counted=True)
        return cls(connect(NETLINK_ROUTE), tags, senders, OutsideSets(), limited, names)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an apply could not do for single containers; the others have all that was planned.

    `overlay`: why this cell is not, or not in full, connected with its peers.
    """

    failures: Failures
    overlay: HostRefused | None = None


@dataclass(frozen=True, slots=True)
class PlannedEffects:
    """Those of one plan. `desired` are the tables that it leads to."""

    plan: Plan
    desired: Tables
    firewall: Firewall
    sockets: Sockets
    failures: Failures = field(default_factory=dict)

    def make(self) -> Outcome:
        """All of them, in their order. Raises HostRefused where rules or sets fail: then nothing is made reachable."""
        refused = self._apart(overlay.withdraw)
        self._remove()  # unreachable before unpoliced
        self._police()  # police before reachable
        addresses.put(self.sockets.route, self.plan.addresses.put)
        self._connect()
        return Outcome(self.failures, overlay=refused or self._apart(overlay.extend))

    def _apart(self, effect: Callable[[Plan, NetlinkSocket], None]) -> HostRefused | None:
        """What the kernel refuses of the overlay keeps no container of this cell from its own link."""
        try:
            with all_refused():
                effect(self.plan, self.sockets.route)
        except HostRefused as error:
            return error
        return None

    def _remove(self) -> None:
        plan, route = self.plan, self.sockets.route
        addresses.drop(route, plan.addresses.drop)  # before the rules that keep strangers from it
        for address, inside in plan.interiors.drop.items():
            if host_interface(address) in plan.veths.drop:  # while its link is there, so that other cells hear of it
                reset_remote_connections(inside.pin, address=address, beyond=overlay.peer_networks(self.desired))
        shapers = [shaper_interface(each) for each in plan.rates.drop]
        if len(plan.veths.drop) + len(shapers) > 1:
            links.delete_together(route, [*plan.veths.drop, *shapers])
        for address in plan.rates.drop:
            self._attempt(address, partial(link_rates.drop, route, address))
        for name, veth in plan.veths.drop.items():  # its routes, neighbours and settings go with it
            self._attempt(veth.address, partial(links.delete, route, name))
        gone = {*plan.veths.drop, TUNNEL_LINK}  # what belongs to the tunnel has been withdrawn
        routes.drop(route, [to for to, way in plan.routes.drop.items() if way.link not in gone])
        neighbours.drop(route, [key for key in plan.neighbours.drop if key.device not in gone])

    def _police(self) -> None:
        plan, (_, tags, senders, outside, limited, names) = self.plan, self.sockets
        later = {*plan.veths.add, TUNNEL_LINK}
        sysctl.write({key: value for key, value in plan.sysctls.put.items() if not is_of_links(key, later)})
        for marks, wanted in ((tags, plan.tags.put), (senders, plan.senders.put)):
            if wanted or any(marks.name in rule for rules in plan.chains.put.values() for rule in rules):
                marks.ensure()  # a set must be there before a rule that names it
                marks.put(wanted)
        outside.put(plan.outside.put, old=plan.outside.old)  # as those
        limited.put(plan.limited.put, old=plan.limited.old)
        names.put(plan.names.put)
        if plan.chains or plan.jumps:
            self.firewall.apply(chains=plan.chains, jumps=plan.jumps)
        tags.drop(plan.tags.drop)  # last, so that no packet of a known container is without its tag
        senders.drop(plan.senders.drop)
        outside.drop(plan.outside.drop)  # which no rule names any more
        limited.drop(plan.limited.drop)
        names.drop(plan.names.drop)

    def _connect(self) -> None:
        plan, route = self.plan, self.sockets.route
        for name, veth in plan.veths.change.items():
            self._attempt(veth.address, partial(links.change_veth, route, name, veth, old=plan.veths.old[name]))
        for address in sorted(self._concerned()):
            self._attempt(address, partial(self._connect_one, address))

    def _concerned(self) -> set[IPv4Address]:
        plan = self.plan
        to = (*(way.link for way in plan.routes.put.values()), *(key.device for key in plan.neighbours.put))
        names = (*plan.veths.add, *plan.links_up.put, *to)
        return {address for name in names if (address := links.address_of(name))} | {*plan.interiors.put, *plan.rates.put}

    def _connect_one(self, address: IPv4Address) -> None:
        plan, route = self.plan, self.sockets.route
        name, inside = host_interface(address), self.desired.interiors[address]
        if name in plan.veths.add:
            links.create_veth(route, name, plan.veths.add[name], pin=inside.pin, peer=inside.interface)
            settings = {key: value for key, value in plan.sysctls.put.items() if is_of_links(key, {name})}
            sysctl.write(settings)  # before it is up: no moment with IPv6
        if address in plan.interiors.put or name in plan.veths.add:
            interior.program(address, inside)
        neighbours.put(route, {key: mac for key, mac in plan.neighbours.put.items() if key.device == name})
        if address in plan.rates.put:
            link_rates.put(route, address, plan.rates.put[address])  # before it is up
        if name in plan.links_up.put:
            links.set_up(route, name)
            interior.await_sending(inside)  # or its first packets would be lost
        routes.put(route, {to: way for to, way in plan.routes.put.items() if way.link == name})  # a route needs its link up

    def _attempt(self, address: IPv4Address, effect: Callable[[], None]) -> None:
        """A failure of one container stops no other; what follows for the same one is left out."""
        if address in self.failures:
            return
        try:
            effect()
        except HostRefused as error:
            self.failures[address] = error
        except OSError:
            raise  # no descriptor left, no memory: that concerns all containers
        except Exception as error:
            self.failures[address] = Unexpected(error)
