"""What Envoy carries for a caller is not cut with flows that the caller had itself, though their ports are the same."""

import socket

import pytest

from dataplane.tables import ORIGINAL_SOURCE_MARK, TUNNEL_MARK
from tests.testlib.beds.conntrack import ConntrackBed, pair
from tests.testlib.connections import is_alive


@pytest.mark.parametrize("mark", [TUNNEL_MARK, ORIGINAL_SOURCE_MARK])
def test_what_envoy_opens_for_a_caller_from_the_port_of_an_earlier_flow_is_not_cut_with_it(
    bed: ConntrackBed, mark: int
) -> None:
    """It is no flow of the host's; to the sockets of the server's namespace it is the same connection."""
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, server = pair(web, api, 8080)
    port = client.getsockname()[1]
    client.close()
    assert server.recv(1) == b""
    server.close()
    api.netns.run("sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=1")
    api.netns.run("ip", "rule", "add", "fwmark", str(mark), "lookup", "77")
    api.netns.run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "77")

    def from_envoy() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        made.setsockopt(socket.SOL_IP, socket.IP_TRANSPARENT, 1)
        made.bind((web.address, port))
        made.connect((api.address, 8080))
        return made

    with api.listen(8080) as listener:
        stream = api.inside(from_envoy), api.keep(listener.accept()[0])
    bed.permit()
    for receipt in (bed.sweep(api), bed.sweep()):
        assert receipt.sockets_destroyed == 0
        assert is_alive(*stream)
    assert not bed.flows()


def test_what_enters_a_tunnel_from_the_port_of_an_earlier_flow_is_not_cut_with_it(bed: ConntrackBed) -> None:
    """To the sockets of the caller's namespace it goes to the same place."""
    web, api = bed.container("web"), bed.container("api")
    bed.permit((web, api, "tcp", 8080))
    client, server = pair(web, api, 8080)
    port = client.getsockname()[1]
    server.close()
    assert client.recv(1) == b""
    client.close()
    chain = "add table ip t; add chain ip t out { type nat hook output priority -100; }"
    web.netns.run("nft", f"{chain}; add rule ip t out tcp dport 8080 redirect to :15001")
    envoy = web.inside(lambda: socket.create_server(("127.0.0.1", 15001)))
    stream = web.connect(api, 8080, source_port=port), web.keep(envoy.accept()[0])
    bed.permit()
    bed.sweep()
    assert is_alive(*stream)
    assert not bed.flows()
