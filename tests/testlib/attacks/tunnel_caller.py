"""A caller that opens tunnels by itself and writes into them what it likes: root in a container, with the container's key."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from ca.leaf import Issued
from dataplane.state import INBOUND_PORT
from tests.testlib.certificates import client_context
from tests.testlib.envoy import API
from tests.testlib.envoy_traffic import dial

Headers = Sequence[tuple[str, str]]
# As written: what this library would refuse to send is what the other side must refuse to take
CONFIGURATION = H2Configuration(
    client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False,
    validate_inbound_headers=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is empty where stream or connection ended without one; `words` are what came back after a 200."""

    status: str
    words: bytes = b""


class TunnelCaller:
    """Calls from a namespace; with a `leaf` it shows that."""

    def __init__(self, namespace: Path, bundle: bytes, *, leaf: Issued | None, address: IPv4Address = API) -> None:
        self._namespace, self._address = namespace, address
        self._context = client_context(bundle, leaf=leaf)
        self._context.set_alpn_protocols(["h2"])

    def asks(self, *headers: tuple[str, str], words: bytes = b"hello") -> Answer:
        """One stream in a tunnel of its own. A tunnel that is refused or closed is an answer without a status."""
        try:
            with self.tunnel() as tunnel:
                return _stream(tunnel, headers, words)
        except (OSError, ProtocolError):  # of which some are the end of the tunnel, with more behind it
            return Answer("")

    def connects(self, authority: str, *headers: tuple[str, str]) -> Answer:
        """CONNECT to `authority`, with these headers besides."""
        return self.asks((":method", "CONNECT"), (":authority", authority), *headers)

    def tunnel(self) -> ssl.SSLSocket:
        """A TLS connection to the end of tunnels, with nothing in it."""
        connection = dial(self._namespace, address=self._address, port=INBOUND_PORT)
        return self._context.wrap_socket(connection, server_hostname=str(self._address))


def _stream(tunnel: ssl.SSLSocket, headers: Headers, words: bytes) -> Answer:
    protocol = H2Connection(CONFIGURATION)
    protocol.initiate_connection()
    stream = protocol.get_next_available_stream_id()
    protocol.send_headers(stream, [(name.encode(), value.encode()) for name, value in headers])
    protocol.send_data(stream, words)
    tunnel.sendall(protocol.data_to_send())
    answer = Answer("")
    while got := tunnel.recv(65536):
        for event in protocol.receive_data(got):
            answer = _after(event, answer)
            if len(answer.words) == len(words) or isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                return answer
        tunnel.sendall(protocol.data_to_send())
    return answer


def _after(event: Event, answer: Answer) -> Answer:
    if isinstance(event, ResponseReceived):
        return Answer(dict(event.headers or ())[b":status"].decode())
    if isinstance(event, DataReceived) and answer.status == "200":
        return Answer(answer.status, answer.words + (event.data or b""))
    return answer
