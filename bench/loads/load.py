"""Client and server of a path, both on one processor: a figure is the cost of the work, not of where the scheduler put it."""

import os
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from agent.errors import HostRefused
from host.namespace import NamespaceThread
from host.process import run

SOURCE = Path(__file__).with_name("load.c")
PORT = 8080  # the first of those that load.c serves
LAST_PORT = PORT + 2
LATENCY, SLOWEST, REQUESTS, CONNECTIONS, THROUGHPUT = "latency", "slowest", "requests", "connections", "throughput"
PACED = "paced"
PORTS = {LATENCY: PORT, SLOWEST: PORT, REQUESTS: PORT, CONNECTIONS: PORT + 1, THROUGHPUT: LAST_PORT}
PATIENCE = 60.0  # seconds


def compiled(folder: Path) -> Path:
    """load.c as a program in `folder`. Raises HostRefused where it cannot be compiled."""
    program = folder / "load"
    run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(SOURCE)], timeout=PATIENCE)
    return program


def pinned(namespace: Path, processors: set[int]) -> NamespaceThread:
    """A thread that lives in `namespace`; what it starts runs on these processors."""
    thread = NamespaceThread(namespace, name="pinned")
    thread.call(lambda: os.sched_setaffinity(0, processors))
    return thread


def processor_seconds(pid: int) -> float:
    """That a process has had so far, without its children."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def serve(program: Path, thread: NamespaceThread) -> "subprocess.Popen[bytes]":
    """The server of load.c, where `thread` is; it ends with that. Raises HostRefused where it does not begin."""
    argv = ["setpriv", "--pdeathsig", "KILL", "--", str(program), "serve", str(PORT)]
    serving = thread.call(lambda: subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
    assert serving.stdout is not None
    if serving.stdout.readline() != b"ready\n":
        raise HostRefused("the server of the load has ended", hint="see the message above")
    return serving


class Ends:
    """A server in one namespace and, for each measurement, a client in another."""

    def __init__(self, program: Path, *, client: Path, server: Path, address: IPv4Address) -> None:
        self._program, self._address = str(program), str(address)
        processor = max(os.sched_getaffinity(0))
        self._client, self._server = pinned(client, {processor}), pinned(server, {processor})
        self._serving = serve(program, self._server)

    def measure(self, what: str, *, milliseconds: int) -> float:
        """One figure, in the unit that load.c prints. Raises HostRefused if a connection fails."""
        argv = [self._program, what, self._address, str(PORTS[what]), str(milliseconds)]
        return float(self._client.call(lambda: run(argv, timeout=PATIENCE)))

    def pace(self, port: int, *, milliseconds: int, rate: int) -> float:
        """So many connections a second, refused ones as well; how many there were."""
        argv = [self._program, PACED, self._address, str(port), str(milliseconds), str(rate)]
        return float(self._client.call(lambda: run(argv, timeout=PATIENCE)))

    def __enter__(self) -> "Ends":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._serving.kill()
        self._serving.communicate()
        self._client.close()
        self._server.close()
