"""An app sees its caller's address, and is itself what the caller reaches, whatever the host's own rules translate."""

from collections.abc import Callable, Iterator

import pytest

from dataplane.firewall.backends.backends import Backend, firewall
from tests.testlib.hosts import allow, await_carrier, make_host
from tests.testlib.netns import Netns
from tests.testlib.node import Node
from tests.testlib.two_hosts import WEB, TwoHosts, two_hosts

RIGHTS = allow(WEB, "8080"), allow(WEB, "8080", "udp")
CATCH_ALL = ("-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
REDIRECTS = [
    ("-t", "nat", "-A", "PREROUTING", "-p", each, "--dport", "8080", "-j", "REDIRECT", "--to", "1") for each in ("tcp", "udp")
]
PUBLISHED = ("-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "7080", "-j", "DNAT")


@pytest.fixture(params=list(Backend), ids=lambda each: each.value)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


@pytest.fixture
def both(netns: Callable[[str], Netns], backend: Backend) -> Iterator[TwoHosts]:
    with two_hosts(netns, firewalls=[firewall(backend), firewall(backend)], permit=RIGHTS) as made:
        yield made


def callers(server: Node, client: Node) -> set[str]:
    """Whom the server sees, of a connection and a datagram."""
    with server.listen(8080) as listener, server.datagrams(8080) as far:
        client.dial(server, 8080)
        client.datagrams().sendto(b"?", (str(server.address), 8080))
        return {listener.accept()[1][0], far.recvfrom(10)[1][0]}


def test_rules_of_the_host_that_translate_everything_disturb_no_call_to_another_cell(both: TwoHosts, backend: Backend) -> None:
    for host in (both.here, both.there):
        for rule in (CATCH_ALL, *REDIRECTS):
            host.netns.run(f"iptables-{backend.value}", *rule)
    assert callers(both.api, both.web) == {str(both.web.address)}


@pytest.mark.parametrize("flavour", list(Backend), ids=lambda each: f"masquerade-{each.value}")
def test_rules_of_the_host_that_translate_everything_disturb_no_call_within_a_cell(
    netns: Callable[[str], Netns], backend: Backend, flavour: Backend
) -> None:
    """Nor one in the other flavour's table, which the kernel asks after ours where it was there before."""
    host = make_host(netns, containers=2, firewall=firewall(backend))
    for rule in (CATCH_ALL, *REDIRECTS):
        host.netns.run(f"iptables-{flavour.value}", *rule)
    host.become(host.with_workloads(host.workload(0), host.workload(1, *RIGHTS)))
    web, api = (Node(each.path, address=host.empty.subnet[2 + number]) for number, each in enumerate(host.containers))
    await_carrier(host.containers[1], "eth0")
    assert callers(api, web) == {str(web.address)}
    for each in (web, api):
        each.close()
    host.kernel.close()


def test_a_container_still_reaches_itself_by_a_port_that_the_host_publishes(
    netns: Callable[[str], Netns], backend: Backend
) -> None:
    """The detour of portmap and others: masqueraded, since an app answers itself without the host."""
    host = make_host(netns, containers=1, firewall=firewall(backend))
    host.become(host.with_workloads(host.workload(0, *RIGHTS)))
    api = Node(host.containers[0].path, address=host.empty.subnet[2])
    for rule in ((*PUBLISHED, "--to-destination", f"{api.address}:8080"), CATCH_ALL):
        host.netns.run(f"iptables-{backend.value}", *rule)
    await_carrier(host.containers[0], "eth0")
    with api.listen(8080) as listener:
        api.dial("10.77.0.1", 7080)
        assert listener.accept()[1][0] == "10.77.0.1"
    api.close()
    host.kernel.close()
