"""A running app of a test's cell: a place to call from that has a process, an identity and a log."""

import signal
import ssl
import sys
import time
from pathlib import Path

from host.namespace import run_in
from lab.apps import App, log_of
from tests.testlib.node import Node, Target, address_of, page
from tests.testlib.patience import PATIENCE

TLS_PORT = 61443
SCRIPT = Path(__file__).parent / "in_containers" / "echo_app.py"
LISTENING = "0A"  # a state in /proc/net/tcp


class Instance(Node):
    """One attachment with its process. `app` is the lab's view of it."""

    def __init__(self, app: App) -> None:
        super().__init__(app.pin, address=app.address)
        self.app, self.name = app, app.name
        self.environment, self.runner = app.environment, app.runner
        self.interface = f"cnet{int(self.address):08x}"

    def get_tls(self, target: Target, *, name: str | None = None, context: ssl.SSLContext | None = None) -> str:
        """The page at https://TARGET:61443/, verified for the address or for `name`. Raises OSError (ssl.SSLError is one)."""
        with self.dial_tls(target, name=name, context=context) as connection:
            return page(connection, "/")

    def dial_tls(
        self, target: Target, *, name: str | None = None, context: ssl.SSLContext | None = None, port: int = TLS_PORT
    ) -> ssl.SSLSocket:
        """A live TLS connection; without `context` as a careful client that shows no certificate."""
        plain = self.dial(target, port)
        made = (context or self.tls_context()).wrap_socket(plain, server_hostname=name or address_of(target))
        self.keep(made)
        return made

    def tls_context(self, *, show: "Instance | None" = None) -> ssl.SSLContext:
        """Verifies against the cell's trust bundle; shows the certificate of `show`, if one is given."""
        context = ssl.create_default_context(cafile=self.environment["CF_INSTANCE_CA"])
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        if show is not None:
            context.load_cert_chain(show.environment["CF_INSTANCE_CERT"], show.environment["CF_INSTANCE_KEY"])
        return context

    def callers(self, port: int) -> list[str]:
        """The source addresses of all connections to a port of this `server=True` so far, in order."""
        return sources(log_of(self.app.cell, self.name), port)

    def exec(self, *argv: str, code: int | None = 0) -> str:
        """What `cellnet exec NAME -- ARGV` prints (both streams); `code` is the exit code that is expected, None for any."""
        done = self.app.exec(*argv)
        assert code is None or done.code == code, f"{' '.join(argv)} ended with {done.code}: {done.out}{done.err}"
        return done.out + done.err

    def stop(self) -> int:
        """End it as Ctrl-C would, detached when this returns; the exit code of `cellnet run`."""
        self.close()
        return self.app.stop()

    def kill(self) -> None:
        """kill -9 of `cellnet run`, so that nothing detaches it."""
        self.runner.send_signal(signal.SIGKILL)
        self.runner.wait()


def serving(ports: tuple[int, ...]) -> tuple[str, ...]:
    """The command of `server=True`."""
    return sys.executable, "-IS", str(SCRIPT), *map(str, ports)


def await_serving(instance: Instance, port: int) -> None:
    """Wait until it listens on the last of its ports."""
    until = time.monotonic() + PATIENCE
    while instance.runner.poll() is None and time.monotonic() < until:
        if is_listening(instance.pin, port):
            return
        time.sleep(0.005)
    raise AssertionError(f"{instance.name} does not listen: {log_of(instance.app.cell, instance.name).read_text()}")


def is_listening(pin: Path, port: int) -> bool:
    """Whether a TCP port is open in a namespace; without a connection, which the app would count as a caller."""
    lines = run_in(pin, lambda: Path("/proc/thread-self/net/tcp").read_text().splitlines())
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == LISTENING for line in lines[1:])


def sources(log: Path, port: int) -> list[str]:
    """The source addresses of all connections to a port, in order, by the log of echo_app.py."""
    words = [line.split() for line in log.read_text().splitlines()]
    return [word[1] for word in words if word[:1] == [str(port)]]
