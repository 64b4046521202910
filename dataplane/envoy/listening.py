"""When a workload's TLS port really is open: LISTEN in the socket table of its namespace.

Envoy acknowledges a listener before it has bound it (up to 10 ms before, with a new secret), and one whose secret never
comes too. Only the kernel knows.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from dataplane.flows.sockdiag import listeners, listening
from host.errors import HostRefused, Unavailable
from host.namespace import NamespaceThread, enter

LOOK_AGAIN = 0.002


def await_listening(
    pin: Path,
    *,
    address: IPv4Address,
    port: int,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when Envoy listens on `address`:`port` in the namespace at `pin`. Blocks; meant for a worker thread.

    Raises Unavailable after `timeout` seconds, HostRefused if the namespace cannot be entered.
    """
    try:
        thread = NamespaceThread(pin, name="listening")
    except OSError as error:
        raise HostRefused(f"cannot enter the namespace at {pin}: {error}") from error
    try:
        end = clock() + timeout
        while not thread.call(lambda: listening(address, port)):
            if clock() >= end:
                raise Unavailable(f"nothing listens on {address}:{port} after {timeout:g} s", hint="see Envoy's log")
            sleep(LOOK_AGAIN)
    finally:
        thread.close()


def not_open(places: Mapping[IPv4Address, Path], *, port: int, sockets: int) -> frozenset[IPv4Address]:
    """Those of `places` (address -> pin) where fewer than so many sockets listen. Blocks; meant for a worker thread.

    A namespace that cannot be looked into is passed over: it is on its way out.
    """
    thread = NamespaceThread(name="not-open")  # one for all of them: it is a tenth of a millisecond from one to the next
    try:
        found = {address: thread.call(partial(_opened, pin, address, port)) for address, pin in places.items()}
    finally:
        thread.close()
    return frozenset(address for address, count in found.items() if count is not None and count < sockets)


def _opened(pin: Path, address: IPv4Address, port: int) -> int | None:
    try:
        enter(pin)
        return listeners(address, port)
    except OSError:  # HostRefused is one
        return None
