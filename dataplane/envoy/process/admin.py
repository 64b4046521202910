"""Questions to Envoy's admin socket, for `status`: it is Envoy's own word, where ADS only knows what Envoy acknowledged."""

import http.client
import json
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from host.errors import Unavailable


@dataclass(frozen=True, slots=True)
class EnvoyServer:
    """`state` is LIVE when it serves; `memory` is what it has allocated, in bytes."""

    version: str
    state: str
    memory: int


_NO_METRIC: Final = re.compile(r"[^a-zA-Z0-9_]")  # stands as `_` in the name of a metric


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, *, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _text(path: Path, page: str, *, timeout: float, method: str = "GET") -> str:
    connection = _UnixConnection(path, timeout=timeout)
    try:
        connection.request(method, page)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise Unavailable(f"Envoy's admin socket answers {answer.status}")
        return answer.read().decode()
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, Unavailable):
            raise
        raise Unavailable(f"Envoy's admin socket {path} does not answer: {error}", hint="see Envoy's log") from error
    finally:
        connection.close()


def _get(path: Path, page: str, *, timeout: float) -> dict[str, object]:
    text = _text(path, page, timeout=timeout)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Unavailable(f"Envoy's admin socket answers {page} with no JSON: {error}", hint="see Envoy's log") from error
    if not isinstance(found, dict):
        raise Unavailable(f"Envoy's admin socket answers {page} with something else")
    return found


def server(path: Path, *, timeout: float = 1) -> EnvoyServer:
    """How Envoy is. Blocks for `timeout` seconds at most; raises Unavailable."""
    about = _get(path, "/server_info", timeout=timeout)
    memory = _get(path, "/memory", timeout=timeout)
    # commit/version/state of the tree/build/TLS library
    _, version, *_ = [*str(about.get("version", "")).split("/"), "", ""]
    return EnvoyServer(
        version=version,
        state=str(about.get("state", "")),
        memory=int(str(memory.get("allocated", "0"))),
    )


def answer(path: Path, *, timeout: float = 3) -> None:
    """Return when Envoy's main thread has answered. Blocks for about `timeout` seconds at most; raises Unavailable."""
    _get(path, "/server_info", timeout=timeout)


def counters(path: Path, names: Collection[str], *, timeout: float = 1) -> Mapping[str, int]:
    """Of Envoy's counters those with these names, as far as it has them. Blocks as the others do; raises Unavailable.

    Asked in Prometheus' format: in others Envoy sorts all that it counts first, which beside 250 containers with mutual TLS
    keeps its main thread for 12 ms instead of 1.
    """
    wanted = {"envoy_" + _NO_METRIC.sub("_", name): name for name in names}
    pattern = "|".join(map(re.escape, names))
    text = _text(path, f"/stats/prometheus?filter={quote(f'^({pattern})$')}", timeout=timeout)
    found = (line.partition("{} ") for line in text.splitlines())
    return {wanted[metric]: int(value) for metric, _, value in found if metric in wanted}


def listeners(path: Path, *, timeout: float = 1) -> frozenset[str]:
    """Names of the listeners that Envoy has, warm or not. Blocks for `timeout` seconds at most; raises Unavailable."""
    found = _get(path, "/listeners?format=json", timeout=timeout).get("listener_statuses", [])
    return frozenset(str(each["name"]) for each in found) if isinstance(found, list) else frozenset()


def drain(path: Path, *, timeout: float = 5) -> None:
    """Have Envoy listen nowhere from now on; the connections that it has go on. Raises Unavailable."""
    _text(path, "/drain_listeners", timeout=timeout, method="POST")


def quit_(path: Path, *, timeout: float = 5) -> None:
    """Have Envoy end, with all that it carries. Raises Unavailable."""
    _text(path, "/quitquitquit", timeout=timeout, method="POST")
