"""Making a plan true: the one place that knows the order of effects, with the reason on each step.

Everything happens in threads that live in the cell's network namespace, since netlink sockets, /proc/sys and the tools'
children all belong to the namespace of the thread that makes them: one thread writes, another reads.
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeAlias, TypeVar

from dataplane.detachment import reset_remote_connections
from dataplane.firewall.driver import Firewall
from dataplane.flows import conntrack
from dataplane.flows.cut import Clock, Looks, Receipt, sweep
from dataplane.flows.judge import NOBODY
from dataplane.ipset import MarkSet
from dataplane.netlink import fdb, interior, links, neighbours, overlay, routes, vtep
from dataplane.plan import Plan
from dataplane.state import HostState
from dataplane.tables import (
    TAG_MASK,
    TAGS_SET,
    TUNNEL_LINK,
    VTEPS_SET,
    WHOLE_MARK,
    Interior,
    Tables,
    host_interface,
    is_of_links,
)
from host import sysctl
from host.errors import HostRefused, Unexpected
from host.namespace import NamespaceThread
from host.netlink.messages import NETLINK_ROUTE
from host.netlink.socket import connect

Result = TypeVar("Result")
Failures: TypeAlias = dict[IPv4Address, HostRefused]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an apply could not do for single containers; the others have all that was planned.

    `overlay`: why this cell is not, or not in full, connected with its peers.
    """

    failures: Failures
    overlay: HostRefused | None = None


class Kernel:
    """The kernel tables of one network namespace: the caller's, or the one pinned at `namespace`."""

    def __init__(self, firewall: Firewall, *, namespace: Path | None = None) -> None:
        self._firewall = firewall
        self._thread = NamespaceThread(namespace, name="kernel")
        self._route, self._tags, self._senders, self._flows = self._thread.call(
            lambda: (connect(NETLINK_ROUTE), _tag_set(), _sender_set(), conntrack.connect())
        )
        # reading 20,000 rules takes long: a change must not wait for it
        self._reader = NamespaceThread(namespace, name="kernel-reader")
        self._read_route, self._read_tags, self._read_senders = self._reader.call(
            lambda: (connect(NETLINK_ROUTE), _tag_set(), _sender_set())
        )

    def close(self) -> None:
        """Give sockets and thread back; the tables stay."""
        for thread, sockets in (
            (self._thread, (self._route, self._tags, self._senders, self._flows)),
            (self._reader, (self._read_route, self._read_tags, self._read_senders)),
        ):
            for each in sockets:
                thread.call(each.close)
            thread.close()

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run something else in the same namespace, in turn with reads and applies. Raises HostRefused."""
        return self._thread.submit(lambda: with_refusals(function))

    def read(self, desired: Tables, *, known: Mapping[IPv4Address, Interior]) -> "Future[Tables]":
        """What the kernel has; of sysctls and namespaces what concerns `desired`. Raises HostRefused.

        Namespaces in `known` are not entered: root in a container may change what is his, and 250 cost a second.
        """
        return self._reader.submit(lambda: with_refusals(lambda: self._read(desired, known)))

    def apply(self, plan: Plan, desired: Tables) -> "Future[Outcome]":
        """Make the plan true. Raises HostRefused where rules or sets fail: then nothing is made reachable."""
        return self._thread.submit(lambda: with_refusals(lambda: self._apply(plan, desired)))

    def sweep(
        self,
        state: HostState,
        *,
        addresses: Collection[IPv4Address] | None,
        looks: Looks,
        clock: Clock,
        departed: Mapping[IPv4Address, int] = NOBODY,
    ) -> "Future[Receipt]":
        """Cut flows, see dataplane/flows/cut.py. Raises HostRefused."""
        swept = partial(sweep, state, clock=clock, addresses=addresses, looks=looks, departed=departed)
        return self._thread.submit(lambda: with_refusals(lambda: swept(link=self._flows)))

    def _read(self, desired: Tables, known: Mapping[IPv4Address, Interior]) -> Tables:
        firewall = self._firewall.read()
        found = links.read(self._read_route)
        tunnel = vtep.read(self._read_route, found.tunnel)
        names = {**found.names, found.tunnel.index: TUNNEL_LINK} if found.tunnel and tunnel else found.names
        inside = {
            address: wanted if known.get(address) == wanted else interior.read(address, wanted)
            for address, wanted in desired.interiors.items()
        }
        return Tables(
            sysctls=sysctl.read(desired.sysctls),
            tags=self._read_tags.read(),
            chains=firewall.chains,
            jumps=firewall.jumps,
            veths=found.veths,
            links_up={**found.up, TUNNEL_LINK: found.tunnel.up} if found.tunnel and tunnel else found.up,
            interiors={address: value for address, value in inside.items() if value is not None},
            neighbours=neighbours.read(self._read_route, names),
            routes=routes.read(self._read_route, names),
            vteps={TUNNEL_LINK: tunnel} if tunnel else {},
            fdb=fdb.read(self._read_route, found.tunnel.index) if found.tunnel and tunnel else {},
            senders=self._read_senders.read(),
        )

    def _apply(self, plan: Plan, desired: Tables) -> Outcome:
        failures: Failures = {}
        apart = self._apart(overlay.withdraw, plan)
        self._remove(plan, desired, failures)  # unreachable before unpoliced
        self._police(plan)  # police before reachable
        self._connect(plan, desired, failures)
        return Outcome(failures, overlay=apart or self._apart(overlay.extend, plan))

    def _apart(self, effect: Callable[..., None], plan: Plan) -> HostRefused | None:
        """No container of this cell is worse off for what stands in the overlay's way."""
        try:
            with_refusals(lambda: effect(plan, self._route))
        except HostRefused as error:
            return error
        return None

    def _remove(self, plan: Plan, desired: Tables, failures: Failures) -> None:
        for address, inside in plan.interiors.drop.items():
            if host_interface(address) in plan.veths.drop:  # while its link is there, so that other cells hear of it
                reset_remote_connections(inside.pin, address=address, beyond=overlay.peer_networks(desired))
        if len(plan.veths.drop) > 1:
            links.delete_together(self._route, plan.veths.drop)
        for name, veth in plan.veths.drop.items():  # its routes, neighbours and settings go with it
            attempt(failures, veth.address, partial(links.delete, self._route, name))
        gone = {*plan.veths.drop, TUNNEL_LINK}  # that one's have been seen to
        routes.drop(self._route, [to for to, way in plan.routes.drop.items() if way.link not in gone])
        neighbours.drop(self._route, [key for key in plan.neighbours.drop if key.device not in gone])

    def _police(self, plan: Plan) -> None:
        later = {*plan.veths.add, TUNNEL_LINK}
        sysctl.write({key: value for key, value in plan.sysctls.put.items() if not is_of_links(key, later)})
        for marks, wanted in ((self._tags, plan.tags.put), (self._senders, plan.senders.put)):
            if wanted or any(marks.name in rule for rules in plan.chains.put.values() for rule in rules):
                marks.ensure()  # a set must be there before a rule that names it
                marks.put(wanted)
        if plan.chains or plan.jumps:
            self._firewall.apply(chains=plan.chains, jumps=plan.jumps)
        self._tags.drop(plan.tags.drop)  # last, so that no packet of a known container is without its tag
        self._senders.drop(plan.senders.drop)

    def _connect(self, plan: Plan, desired: Tables, failures: Failures) -> None:
        for name, veth in plan.veths.change.items():
            attempt(failures, veth.address, partial(links.change_veth, self._route, name, veth, old=plan.veths.old[name]))
        for address in sorted(self._concerned(plan)):
            attempt(failures, address, partial(self._connect_one, address, plan, desired))

    def _concerned(self, plan: Plan) -> set[IPv4Address]:
        to = (*(way.link for way in plan.routes.put.values()), *(key.device for key in plan.neighbours.put))
        names = (*plan.veths.add, *plan.links_up.put, *to)
        return {address for name in names if (address := links.address_of(name))} | set(plan.interiors.put)

    def _connect_one(self, address: IPv4Address, plan: Plan, desired: Tables) -> None:
        name, inside = host_interface(address), desired.interiors[address]
        if name in plan.veths.add:
            links.create_veth(self._route, name, plan.veths.add[name], pin=inside.pin, peer=inside.interface)
            settings = {key: value for key, value in plan.sysctls.put.items() if is_of_links(key, {name})}
            sysctl.write(settings)  # before it is up: no moment with IPv6
        if address in plan.interiors.put or name in plan.veths.add:
            interior.program(address, inside)
        neighbours.put(self._route, {key: mac for key, mac in plan.neighbours.put.items() if key.device == name})
        if name in plan.links_up.put:
            links.set_up(self._route, name)
        ways = {to: way for to, way in plan.routes.put.items() if way.link == name}
        routes.put(self._route, ways)  # a route needs its link up


def _tag_set() -> MarkSet:
    return MarkSet(TAGS_SET, mask=TAG_MASK)


def _sender_set() -> MarkSet:
    return MarkSet(VTEPS_SET, mask=WHOLE_MARK)


def with_refusals(work: Callable[[], Result]) -> Result:
    """Run `work`; whatever goes wrong in the kernel, or in a library on the way there, is raised as HostRefused."""
    try:
        return work()
    except Exception as error:
        if isinstance(error, HostRefused):
            raise
        raise refusal(error) from error


def refusal(error: Exception) -> HostRefused:
    """What to raise for an error of the kernel's, or for one that a library raises and does not tell of in advance."""
    if isinstance(error, OSError):
        return HostRefused(f"the kernel refused: {error}", hint="see the kernel's log, and file descriptors left")
    return Unexpected(error)


def attempt(failures: Failures, address: IPv4Address, effect: Callable[[], None]) -> None:
    """One bad container never stops the others: its first failure is kept, what follows for it is left out."""
    if address in failures:
        return
    try:
        effect()
    except HostRefused as error:
        failures[address] = error
    except OSError:
        raise  # no descriptor left, no memory: that is not one container's
    except Exception as error:
        failures[address] = refusal(error)
