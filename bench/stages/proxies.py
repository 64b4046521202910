"""HAProxy and nginx inside a container, terminating TLS in front of its app as our Envoy does: the same certificate, the
same question for the caller's own, the same number of threads. nginx is the app, too.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from agent.errors import Unavailable
from bench.loads.load import PATIENCE, pinned

ANSWER = "x" * 1024
LARGE = 4 << 20
POLL = 0.01

NGINX = """\
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit; user root;
{load} events {{ worker_connections 8192; }}
{body}
"""
APP = """\
http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; default_type text/plain;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {address}:{port} backlog=1024; root {folder}/app; location = / {{ return 200 "{answer}"; }} }} }}
"""
STREAM = """\
stream {{ server {{ listen {address}:{port} ssl backlog=1024; tcp_nodelay on; proxy_pass {address}:{app};
  ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_verify_client optional; ssl_client_certificate {trust}; }} }}
"""
HAPROXY = """\
global
  nbthread 1
  maxconn 4000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode tcp
  timeout connect 1s
  timeout client 60s
  timeout server 60s
listen tls
  bind {address}:{port} backlog 1024 ssl crt {pem} ca-file {trust} verify optional
  server app {address}:{app}
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Files of a certificate chain, its key, and the roots that callers are verified against."""

    chain: Path
    key: Path
    trust: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where the programs run: a namespace, its address, a folder for their files, and their processor."""

    pin: Path
    address: IPv4Address
    folder: Path
    processor: int


class Running(AbstractContextManager["Running"]):
    """A program in a place; it is there when its port is."""

    def __init__(self, place: Place, argv: Iterable[str], *, port: int) -> None:
        self._thread = pinned(place.pin, {place.processor})
        words = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
        self._child = self._thread.call(lambda: subprocess.Popen(words, stdin=subprocess.DEVNULL))
        try:
            until = time.monotonic() + PATIENCE
            while not self._thread.call(lambda: _listens(place.address, port)):
                if self._child.poll() is not None or time.monotonic() > until:
                    raise Unavailable(f"{words[4]} does not serve port {port}", hint="see the messages above")
                time.sleep(POLL)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    @property
    def pid(self) -> int:
        """The process and its children do the work."""
        return self._child.pid

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(PATIENCE)
        self._thread.close()


def _listens(address: IPv4Address, port: int) -> bool:
    with socket.socket() as made:
        made.settimeout(1)
        return made.connect_ex((str(address), port)) == 0


def app(place: Place, *, port: int) -> Running:
    """`/` answers one KiB, `/large` four MiB."""
    (place.folder / "app").mkdir()
    (place.folder / "app" / "large").write_bytes(bytes(LARGE))
    body = APP.format(folder=place.folder, address=place.address, port=port, answer=ANSWER)
    return _nginx(place, "app", body, port=port)


def nginx(place: Place, identity: Identity, *, port: int, app: int) -> Running:
    """TLS in front of the app, by nginx."""
    body = STREAM.format(
        address=place.address, port=port, app=app, chain=identity.chain, key=identity.key, trust=identity.trust
    )
    return _nginx(place, "nginx", body, port=port, load="load_module /usr/lib/nginx/modules/ngx_stream_module.so;")


def haproxy(place: Place, identity: Identity, *, port: int, app: int) -> Running:
    """TLS in front of the app, by HAProxy."""
    pem = place.folder / "haproxy.pem"
    pem.touch(mode=0o600)
    pem.write_bytes(identity.chain.read_bytes() + identity.key.read_bytes())
    text = HAPROXY.format(address=place.address, port=port, app=app, pem=pem, trust=identity.trust)
    config = place.folder / "haproxy.cfg"
    config.write_text(text)
    return Running(place, ["haproxy", "-q", "-db", "-f", str(config)], port=port)


def _nginx(place: Place, name: str, body: str, *, port: int, load: str = "") -> Running:
    config = place.folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=place.folder, name=name, load=load, body=body))
    return Running(place, ["nginx", "-q", "-c", str(config), "-p", str(place.folder), "-e", str(config.with_suffix(".log"))],
                   port=port)  # fmt: skip
