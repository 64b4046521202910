"""What a container sends at once when its link is there arrives."""

import socket
from collections.abc import Callable

from dataplane.apply import PlannedEffects
from dataplane.compile import compile_tables
from dataplane.plan import plan
from host.namespace import run_in
from tests.testlib.hosts import allow, make_host
from tests.testlib.netns import Netns

ROUNDS = 40  # without a wait for the link a few of so many are lost on a machine at rest, half of them on a busy one
SECONDS = 5.0


def test_the_first_packet_of_a_container_is_not_lost_in_its_own_link(netns: Callable[[str], Netns]) -> None:
    host = make_host(netns, containers=2)
    api, web = host.workload(0, allow(2, "8080", "udp")), host.workload(1)
    before, after = host.with_workloads(api), host.with_workloads(api, web)
    with datagrams(host.containers[1]) as sender, datagrams(host.containers[0]) as receiver:
        host.become(before)
        receiver.bind((str(api.address), 8080))
        for number in range(ROUNDS):
            host.become(before)
            tables = compile_tables(after)
            effects = PlannedEffects(plan(tables, host.read(tables)), tables, host.kernel._firewall, host.kernel._to_write)
            word = str(number).encode()

            def send(effects: PlannedEffects = effects, word: bytes = word) -> None:
                """In the thread that has connected it, so that nothing comes between."""
                assert effects.make().failures == {}
                sender.sendto(word, (str(api.address), 8080))

            host.kernel.submit(send).result()
            assert receiver.recv(16) == word


def datagrams(place: Netns) -> socket.socket:
    made = run_in(place.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.settimeout(SECONDS)
    return made
