"""A tunnel takes new streams for a while only, so that no certificate counts for long after its end; streams live on in it."""

import ssl
import time
from collections.abc import Iterator

from h2.connection import H2Connection

from dataplane.state import INBOUND_PORT
from tests.testlib.attacks.tunnel_caller import CONFIGURATION, TunnelCaller
from tests.testlib.certificates import identity
from tests.testlib.envoy import API, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, exchange
from tests.testlib.patience import PATIENCE, eventually
from tests.testlib.tunnels.pair import WEB_TAG, TunnelPair

LONGEST = 1


def tunnels_of(pair: EnvoyPair) -> set[str]:
    """The ports of `web` from which its tunnels come."""
    lines = pair.web.run("ss", "-Htn", "state", "established", "dport", "=", str(INBOUND_PORT)).splitlines()
    return {line.split()[2].rpartition(":")[2] for line in lines}


def test_a_tunnel_takes_no_new_stream_after_its_time_and_ends_with_its_last(
    cell: EnvoyCell, pair: EnvoyPair, app: EchoApp
) -> None:
    made = TunnelPair(cell, pair, longest=LONGEST)
    with dial(pair.web.path, port=8080) as early:
        assert exchange(early, b"early") == b"early"
        old = tunnels_of(pair)
        assert len(old) == 1
        cell.put(made.workload("web", WEB, WEB_TAG))  # another certificate
        cell.settle(WEB)
        time.sleep(LONGEST + 0.5)
        with dial(pair.web.path, port=8080) as late:
            assert exchange(late, b"late") == b"late"
            assert tunnels_of(pair) > old
            assert exchange(early, b"still") == b"still"
            early.close()
            eventually(lambda: not tunnels_of(pair) & old)
            assert exchange(late, b"later") == b"later"


class StubbornCaller:
    """Opens streams in one tunnel, whatever the other end says of that."""

    def __init__(self, tunnel: ssl.SSLSocket) -> None:
        self._tunnel, self._protocol = tunnel, H2Connection(CONFIGURATION)
        self._protocol.initiate_connection()
        self._tunnel.settimeout(1)

    def opens(self, stream: int) -> bool:
        """Whether what is sent in a new stream comes back."""
        headers = [(b":method", b"CONNECT"), (b":authority", f"{API}:8080".encode())]
        self._protocol.send_headers(stream, headers)
        return self.goes_on(stream)

    def goes_on(self, stream: int) -> bool:
        """Whether it does in one that was opened before."""
        words = f"of {stream}".encode()
        self._protocol.send_data(stream, words)
        self._tunnel.sendall(self._protocol.data_to_send())
        return any(found == (stream, words) for found in self._received())

    def _received(self) -> Iterator[tuple[int, bytes]]:
        """Stream and content of the frames of data that come within a second."""
        got = b""
        try:
            while part := self._tunnel.recv(65536):
                got += part
                while len(got) >= 9 and len(got) >= (end := 9 + int.from_bytes(got[:3], "big")):
                    if got[3] == 0:
                        yield int.from_bytes(got[5:9], "big"), got[9:end]
                    got = got[end:]
        except TimeoutError:
            return


def test_a_caller_that_goes_on_opening_streams_in_an_old_tunnel_is_not_heard(
    cell: EnvoyCell, pair: EnvoyPair, app: EchoApp
) -> None:
    TunnelPair(cell, pair, longest=LONGEST)
    leaf, bundle = cell.ca.leaf(identity()), cell.ca.root.bundle()
    with TunnelCaller(pair.web.path, bundle, leaf=leaf).tunnel() as tunnel:
        caller = StubbornCaller(tunnel)
        assert caller.opens(1)
        until = time.monotonic() + PATIENCE
        number = 3
        while caller.opens(number):
            assert time.monotonic() < until
            time.sleep(0.5)
            number += 2
        assert not caller.opens(number + 2)
        assert caller.goes_on(1)
        assert app.received.count(f"of {number}".encode()) == 0
