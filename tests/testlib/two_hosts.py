"""Two cells without agents on one segment: web and other on the first, api and db on the second."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dataplane.firewall.backends.driver import Firewall
from dataplane.state import Allow, HostState, Workload
from tests.testlib.hosts import WORLD, Host, make_hosts
from tests.testlib.netns import Netns
from tests.testlib.node import Node

WEB, OTHER, API, DB = 1, 2, 3, 4  # tags


@dataclass
class TwoHosts:
    """The cells `here` and `there`, and their containers as places to call from."""

    here: Host
    there: Host
    places: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        for host in (self.here, self.there):
            self.places += [self.place(host, number) for number in range(len(host.containers))]

    @property
    def web(self) -> Node:
        return self.places[0]

    @property
    def other(self) -> Node:
        return self.places[1]

    @property
    def api(self) -> Node:
        return self.places[2]

    @property
    def db(self) -> Node:
        return self.places[3]

    def cell(self, host: Host) -> Node:
        """The cell itself, known by its address in the underlay."""
        assert host.empty.tunnel
        place = Node(host.netns.path, address=host.empty.tunnel.address)
        self.places.append(place)
        return place

    def world(self) -> Node:
        """Where everything else is."""
        assert self.here.world
        place = Node(self.here.world.path, address=WORLD)
        self.places.append(place)
        return place

    def place(self, host: Host, number: int) -> Node:
        """A container."""
        return Node(host.containers[number].path, address=host.empty.subnet[2 + number])

    def workloads(self, host: Host, *allows: Allow) -> tuple[Workload, ...]:
        """Both of a cell; the first may be reached by these."""
        first = WEB if host is self.here else API
        return (host.workload(0, *allows, tag=first), host.workload(1, tag=first + 1))

    def permit(self, *allows: Allow) -> None:
        """Exactly these may reach api from now on; web, other and db are reached by none."""
        self.there.become(self.reached(*allows))

    def reached(self, *allows: Allow) -> HostState:
        """The second cell, where these may reach api."""
        return self.there.with_workloads(*self.workloads(self.there, *allows))

    def close(self) -> None:
        """Close the sockets of the test's own; the namespaces are their maker's."""
        for each in self.places:
            each.close()
        for host in (self.here, self.there):
            host.kernel.close()


@contextmanager
def two_hosts(
    netns: Callable[[str], Netns], *, firewalls: Sequence[Firewall] = (), permit: Sequence[Allow] = ()
) -> Iterator[TwoHosts]:
    """Both up, with these rights to reach api."""
    here, there = make_hosts(netns, count=2, containers=2, firewalls=firewalls)
    made = TwoHosts(here, there)
    here.become(here.with_workloads(*made.workloads(here)))
    made.permit(*permit)
    yield made
    made.close()


def with_egress(host: Host) -> HostState:
    """The present state of a host, with egress allowed."""
    return replace(host.state, egress_allowed=True)
