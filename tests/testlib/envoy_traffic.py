"""An app behind Envoy that records the peers that really reach it, and callers in front of it."""

import socket
import ssl
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from host.namespace import run_in
from tests.testlib.envoy import API, PORT

TIMEOUT = 10.0


@dataclass
class EchoApp:
    """A TCP server inside a namespace: greets with `greeting`, then sends back what it gets. `peers` are all it accepted."""

    namespace: Path
    address: IPv4Address = API
    port: int = 8080
    greeting: bytes = b""
    peers: list[str] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = run_in(self.namespace, lambda: socket.create_server((str(self.address), self.port), backlog=512))
        threading.Thread(target=self._accept, name="app", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, (peer, _) = self._socket.accept()
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(self.greeting)
                while got := connection.recv(65536):
                    self.received.append(got)
                    connection.sendall(got)
            except OSError:
                return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def dial(namespace: Path, *, address: IPv4Address = API, port: int = PORT) -> socket.socket:
    """A TCP connection from inside a namespace, usable from anywhere."""
    return run_in(namespace, lambda: socket.create_connection((str(address), port), timeout=TIMEOUT))


def dial_tls(namespace: Path, context: ssl.SSLContext, *, name: str = "api.test", address: IPv4Address = API) -> ssl.SSLSocket:
    """The same with TLS, for the server called `name`."""
    return context.wrap_socket(dial(namespace, address=address), server_hostname=name)


def exchange(connection: socket.socket, words: bytes) -> bytes:
    """Send, and read as much as was sent."""
    connection.sendall(words)
    return read_exactly(connection, len(words))


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """Read exactly so much, or what came before the end."""
    got = b""
    while len(got) < size and (part := connection.recv(size - len(got))):
        got += part
    return got


def lax_context() -> ssl.SSLContext:
    """A client that takes any server and every old protocol: what it cannot do, Envoy forbids."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context
