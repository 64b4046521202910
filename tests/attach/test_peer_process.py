"""A pid that has become another process's: what is attached by it must not be that process's namespace."""

import errno
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control.peer import SO_PEERPIDFD, Options, peer_of
from agent.errors import Conflict
from agent.model.peer import Peer
from agent.store.ledger import Ledger
from tests.testlib.beds.attach import Obliging, attaching
from tests.testlib.samples import request

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
TRIES = 200


class OlderKernel:
    """A socket that does not know SO_PEERPIDFD."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        if name == SO_PEERPIDFD:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        return self._connection.getsockopt(level, name, size)


KERNELS: list[Callable[[socket.socket], Options]] = [lambda connection: connection, OlderKernel]


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        made.listen()
        yield made


def connected(listener: socket.socket) -> tuple[int, int, socket.socket]:
    """A child that has connected, what ends it when it is closed, and our end of its connection."""
    waiting, ending = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ending)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(listener.getsockname())
            os.read(waiting, 1)
        os._exit(0)
    os.close(waiting)
    return pid, ending, listener.accept()[0]


def end(pid: int, ending: int) -> None:
    os.close(ending)
    os.waitpid(pid, 0)


def started_as(pid: int) -> "subprocess.Popen[bytes] | None":
    """Another process in a network namespace of its own, under this pid."""
    for _ in range(TRIES):
        LAST_PID.write_text(str(pid - 1))
        made = subprocess.Popen(["unshare", "--net", "--", "sleep", "600"])
        if made.pid == pid:
            return made
        made.kill()
        made.wait()
    return None


@pytest.mark.parametrize("kernel", KERNELS, ids=["6.5", "older"])
def test_a_process_is_known_to_live_until_it_ends(listener: socket.socket, kernel: Callable[[socket.socket], Options]) -> None:
    pid, ending, connection = connected(listener)
    with connection:
        peer = peer_of(kernel(connection))
        assert peer.pid == pid
        peer.refuse_ended()
        end(pid, ending)
        with pytest.raises(Conflict, match=f"pid {pid}. has ended"):
            peer.refuse_ended()
        with pytest.raises(Conflict, match="has ended"):
            peer_of(kernel(connection)).refuse_ended()


def test_an_older_kernels_peer_must_be_of_the_user_that_connected() -> None:
    class Reused:
        """Root's connection, whose pid is another user's process by now."""

        def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
            if name == SO_PEERPIDFD:
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")
            return struct.pack("3i", other.pid, 0, 0)

    with subprocess.Popen(["sleep", "600"], user=65534) as other:
        try:
            with pytest.raises(Conflict, match="has ended"):
                peer_of(Reused()).refuse_ended()
        finally:
            other.kill()


async def test_the_namespace_of_a_process_that_got_the_callers_pid_is_not_attached(
    tmp_path: Path, listener: socket.socket, ledger: Ledger
) -> None:
    pid, ending, connection = connected(listener)
    peer: Peer = peer_of(connection)
    end(pid, ending)
    other = started_as(pid)
    assert other is not None, f"pid {pid} was not given again"
    try:
        while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        asked = replace(request("web"), netns=Path(f"/proc/{pid}/ns/net"), owner_pid=pid)
        with pytest.raises(Conflict, match="has ended"):
            await attaching(tmp_path, ledger, Obliging()).attach(asked, peer=peer)
        assert ledger.all() == ()
    finally:
        other.kill()
        other.wait()
        connection.close()
