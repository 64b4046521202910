"""Callers that never rest: each dials its targets in turn, verifies against the roots that it reads anew, and is answered."""

import contextlib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from cryptography import x509

from tests.testlib.instance import Instance

PAUSE = 0.01  # seconds between two calls: what is rotated meanwhile needs the processors too

Call = Callable[[Instance, Instance], x509.Certificate | None]
"""One call from a caller to a target; the certificate that the target has shown the caller. Raises where the call fails."""


def tls_call(caller: Instance, target: Instance) -> x509.Certificate:
    """On 61443, as a careful client that shows nothing."""
    return _answered(caller, target, caller.tls_context())


def mutual_tls_call(caller: Instance, target: Instance) -> x509.Certificate:
    """On 61443, as a client that shows its own certificate, from its files as they are now."""
    for attempt in range(3):
        try:
            return _answered(caller, target, caller.tls_context(show=caller))
        except ssl.SSLError as error:
            if attempt == 2 or error.reason != "KEY_VALUES_MISMATCH":  # chain and key are two files
                raise
    raise AssertionError


def plain_call(caller: Instance, target: Instance) -> None:
    """On 8080, as an app that knows nothing of TLS: in a tunnel, where the cells have mutual TLS."""
    with caller.dial(target, 8080) as connection:
        connection.sendall(b"echo")
        assert connection.recv(4) == b"echo"


def _answered(caller: Instance, target: Instance, context: ssl.SSLContext) -> x509.Certificate:
    with caller.dial_tls(target, context=context) as secure:
        secure.sendall(b"echo")
        assert secure.recv(4) == b"echo"
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


class TlsLoad:
    """What came of the calls so far.

    `answered` counts those that were, by their kind; `shown` has the targets' names with the serial numbers that these showed.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.shown = set[tuple[str, int]]()
        self.answered: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        """That were answered."""
        return self.answered.total()

    def leaves(self, target: Instance) -> int:
        """How many a target has shown."""
        return len({serial for name, serial in self.shown if name == target.name})

    def call(self, kind: Call, caller: Instance, target: Instance) -> None:
        """One more."""
        try:
            certificate = kind(caller, target)
        except Exception as error:
            with self._lock:
                self.failures.append(f"{kind.__name__} {caller.name} to {target.name} at {time.strftime('%X')}: {error!r}")
        else:
            with self._lock:
                self.answered[kind.__name__] += 1
                if certificate is not None:
                    self.shown.add((target.name, certificate.serial_number))


@contextlib.contextmanager
def tls_load(callers: Sequence[Instance], targets: Sequence[Instance], kinds: Sequence[Call]) -> Iterator[TlsLoad]:
    """From each caller to each target, for as long as the block lasts; in each of these ways."""
    load, stop = TlsLoad(), threading.Event()

    def run(caller: Instance) -> None:
        while not stop.is_set():
            for target in targets:
                for kind in kinds:
                    load.call(kind, caller, target)
                    stop.wait(PAUSE)

    threads = [threading.Thread(target=run, args=(caller,), name=f"load of {caller.name}") for caller in callers]
    for each in threads:
        each.start()
    try:
        yield load
    finally:
        stop.set()
        for each in threads:
            each.join()
