"""The kernel tables of one network namespace: read in full, changed by a plan, swept of flows.

Everything happens in threads that live in that namespace, since netlink sockets, /proc/sys and the tools' children all belong
to the namespace of the thread that makes them. One thread writes, another reads.
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from dataplane.apply import Outcome, PlannedEffects, Sockets
from dataplane.firewall.backends.driver import Firewall, FirewallTables
from dataplane.flows import conntrack
from dataplane.flows.cut import Clock, Forbidden, Receipt, SweepPhase, sweep
from dataplane.flows.datagrams import flows_in_use, lives
from dataplane.flows.foreseen import foreseen
from dataplane.flows.judge import HostView, reached_outside
from dataplane.flows.places import Places
from dataplane.flows.plain import plain_flows
from dataplane.flows.streams import EnvoySockets, unknown_sockets
from dataplane.netlink import addresses, fdb, interior, link_rates, links, neighbours, routes, vtep
from dataplane.plan import Plan
from dataplane.sets.known_names import KnownNames
from dataplane.sets.names import NameSets
from dataplane.state import HostState
from dataplane.tables import TUNNEL_LINK, Interior, Tables
from host import sysctl
from host.errors import all_refused
from host.namespace import NamespaceThread
from host.netlink.socket import NetlinkSocket

Result = TypeVar("Result")


class Kernel:
    """The tables of the caller's namespace, or of the one pinned at `namespace`. `envoy` is asked which sockets are Envoy's."""

    def __init__(
        self,
        firewall: Firewall,
        *,
        namespace: Path | None = None,
        envoy: EnvoySockets = unknown_sockets,
        known_names: KnownNames | None = None,
    ) -> None:
        self._firewall, self._envoy = firewall, envoy
        self.known_names = KnownNames() if known_names is None else known_names
        self._writer = NamespaceThread(namespace, name="kernel")
        self._names = self._writer.call(partial(NameSets, self.known_names))
        sockets = partial(Sockets.connected, self._names)
        self._to_write, self._flows = self._writer.call(sockets), self._writer.call(conntrack.connect)
        # reading 20,000 rules takes long: a change must not wait for it
        self._reader = NamespaceThread(namespace, name="kernel-reader")
        self._to_read, self._flows_to_read = self._reader.call(sockets), self._reader.call(conntrack.connect)
        # what waits for an address of a name is an app that has asked for it: it must not wait for 20,000 rules either
        self._answers = NamespaceThread(namespace, name="kernel-names")
        self._is_open = True

    def close(self) -> None:
        """Give sockets and threads back, the first time; the tables stay."""
        if not self._is_open:
            return
        self._is_open = False
        for thread, sockets in (
            (self._writer, (*self._to_write, self._flows)),
            (self._reader, (*self._to_read, self._flows_to_read)),
        ):
            for each in sockets:
                thread.call(each.close)
            thread.close()
        self._answers.close()

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run `function` in the namespace, one after another with what is applied and swept. Raises HostRefused."""
        return self._writer.submit(all_refused()(function))

    def observe(self, function: Callable[[], Result]) -> "Future[Result]":
        """Run `function`, which only reads, in the namespace and beside what is applied. Raises HostRefused."""
        return self._reader.submit(all_refused()(function))

    def read(self, desired: Tables, *, known: Mapping[IPv4Address, Interior], again: bool = False) -> "Future[Tables]":
        """What the kernel has; of sysctls and namespaces what concerns `desired`. Raises HostRefused.

        Namespaces in `known` are not entered: root in a container may change its own, and reading 250 takes 100 ms. With
        `again` those are that have a redirect: without it a container's calls come to nothing.
        """
        return self._reader.submit(partial(self._read, desired, known, again))

    def apply(self, plan: Plan, desired: Tables) -> "Future[Outcome]":
        """Make the plan true. Raises HostRefused where rules or sets fail: then nothing is made reachable."""
        return self.submit(PlannedEffects(plan, desired, self._firewall, self._to_write).make)

    def sweep(self, state: HostState, places: Places, *, phase: SweepPhase, clock: Clock) -> "Future[Receipt]":
        """Cut flows, see dataplane/flows/cut.py. Raises HostRefused."""
        view = self._view(self._to_write)
        return self.submit(partial(sweep, state, places, phase=phase, view=view, link=self._flows, clock=clock))

    def rules(self) -> "Future[FirewallTables]":
        """The rules that the kernel has of ours. Raises HostRefused."""
        return self.observe(self._firewall.read)

    def own_addresses(self) -> "Future[frozenset[IPv4Address]]":
        """Those of the host itself. Raises HostRefused."""
        return self.observe(lambda: _addresses(self._to_read[0]))

    def open_names(self, function: Callable[[NameSets], Result]) -> "Future[Result]":
        """Put addresses of names into their sets, beside what is applied. Raises HostRefused."""
        return self._answers.submit(all_refused()(partial(function, self._names)))

    def reached_outside(self, state: HostState) -> "Future[frozenset[IPv4Address]]":
        """The addresses outside that containers have flows to. Raises HostRefused."""
        return self.observe(lambda: reached_outside(conntrack.flows(self._flows_to_read), state))

    def plain_flows(self, state: HostState) -> "Future[int]":
        """How many open TCP connections of containers are in no tunnel, see dataplane/flows/plain.py. Raises HostRefused."""
        return self.observe(lambda: len(plain_flows(conntrack.flows(self._flows_to_read), state)))

    def foresee(self, now: HostState, then: HostState) -> "Future[Forbidden]":
        """What a change of state would cut, see dataplane/flows/foreseen.py. Raises HostRefused."""
        return self.observe(partial(foreseen, now, then, view=self._view(self._to_read), link=self._flows_to_read))

    def datagram_flows(self, addresses: Collection[IPv4Address], *, resolver: IPv4Address) -> "Future[dict[IPv4Address, int]]":
        """How many flows of UDP each of these has in use, see dataplane/flows/datagrams.py. Raises HostRefused."""
        return self.observe(
            lambda: flows_in_use(
                conntrack.flows(self._flows_to_read, of=addresses), addresses, resolver=resolver, lives=lives()
            )
        )

    def _view(self, sockets: Sockets) -> HostView:
        """For the thread whose `sockets` these are."""
        return HostView(self._envoy, self.known_names, partial(_addresses, sockets.route))

    @all_refused()
    def _read(self, desired: Tables, known: Mapping[IPv4Address, Interior], again: bool) -> Tables:
        route, tags, senders, outside, limited, name_sets = self._to_read
        firewall = self._firewall.read()
        found = links.read(route)
        tunnel = vtep.read(route, found.tunnel)
        names = {**found.names, found.tunnel.index: TUNNEL_LINK} if found.tunnel and tunnel else found.names
        inside = {
            address: wanted
            if known.get(address) == wanted and not (again and wanted.redirect)
            else interior.read(address, wanted, known=known.get(address))
            for address, wanted in desired.interiors.items()
        }
        told = {key: found.settings[key] for key in desired.sysctls if key in found.settings}
        return Tables(
            sysctls=told | sysctl.read(key for key in desired.sysctls if key not in told),
            tags=tags.read(),
            chains=firewall.chains,
            jumps=firewall.jumps,
            veths=found.veths,
            links_up={**found.up, TUNNEL_LINK: found.tunnel.up} if found.tunnel and tunnel else found.up,
            interiors={address: value for address, value in inside.items() if value is not None},
            neighbours=neighbours.read(route, names),
            routes=routes.read(route, names),
            vteps={TUNNEL_LINK: tunnel} if tunnel else {},
            addresses=addresses.read_own(route),
            fdb=fdb.read(route, found.tunnel.index) if found.tunnel and tunnel else {},
            senders=senders.read(),
            outside=outside.read(),
            limited=limited.read(),
            rates=link_rates.read(route, found, desired.rates),
            names=name_sets.read(),
        )


def _addresses(route: NetlinkSocket) -> frozenset[IPv4Address]:
    """The host's own."""
    return frozenset(each.local.ip for each in addresses.read(route))
