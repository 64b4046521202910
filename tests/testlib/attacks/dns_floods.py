"""A container that asks more than one may: datagrams without a pause, open connections, one connection after another."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from host.namespace import run_in
from tests.testlib.dns.client import PORT, RESOLVER, Code, ask_once, ask_over_tcp, question
from tests.testlib.node import Node

FLOOD = """
import socket, sys
caller, message = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), bytes.fromhex(sys.argv[2])
caller.connect((sys.argv[1], 53))
print(flush=True)
number = 0
while True:
    number = (number + 1) % 1000000
    try:
        caller.send(message.replace(b"000000", b"%06d" % number))
    except OSError:
        pass
"""
TRIES, SECONDS = 3, 1.5  # as resolvers try again, only sooner


@contextmanager
def flooded_by(*nodes: Node, name: str = "flood.cell.internal") -> Iterator[None]:
    """Each of them sends the same question without a pause; one for another name each time, where `name` has `000000`."""
    with ExitStack() as stack:
        for each in nodes:
            said = [str(RESOLVER), question(name).hex()]
            argv = ["nsenter", f"--net={each.pin}", "--", sys.executable, "-IS", "-c", FLOOD, *said]
            flood = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE))
            stack.callback(flood.kill)
            assert flood.stdout is not None
            flood.stdout.readline()
        yield


def idle_connections(node: Node, wanted: int, *, seconds: float = 1.0) -> list[socket.socket]:
    """Those of `wanted` connections that are open after so long; nothing is asked on them. Closed with the node."""

    def begin() -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        made.connect_ex((str(RESOLVER), PORT))
        return made

    begun = [run_in(node.pin, begin) for _ in range(wanted)]
    time.sleep(seconds)
    for each in begun:
        node.keep(each)
    return [each for each in begun if _is_open(each)]


def _is_open(connection: socket.socket) -> bool:
    with suppress(OSError):
        connection.getpeername()
        return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    return False


def connections_in(node: Node, *, seconds: float) -> int:
    """How many connections it gets, one after another, in so long."""
    made, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError), run_in(node.pin, socket.socket) as caller:
            caller.settimeout(0.1)
            caller.connect((str(RESOLVER), PORT))
            made += 1
    return made


def unanswered(node: Node, *, over: Sequence[object] = (ask_once, ask_over_tcp), times: int = 15) -> int:
    """How many of so many questions, each asked a few times, have come to nothing."""
    return sum(not _is_answered(node, each) for _ in range(times) for each in over)


def _is_answered(node: Node, over: object) -> bool:
    assert callable(over)
    for _ in range(TRIES):
        with suppress(OSError):
            return bool(over(node, "nothing.cell.internal", seconds=SECONDS).code is Code.NXDOMAIN)
    return False
