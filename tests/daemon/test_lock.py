"""One agent per network namespace; a user other than root cannot keep it out."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from agent.daemon import lock
from agent.errors import Conflict
from host.namespace import run_in
from host.process import start_time
from tests.testlib.first_thread import without_first_thread
from tests.testlib.netns import Netns

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def taken(host: Netns, *, strangers: list[int] | None = None):  # type: ignore[no-untyped-def]
    note = (strangers if strangers is not None else []).append
    return run_in(host.path, lambda: lock.take(on_foreign=note, patience=0))


def test_a_second_agent_is_refused_and_a_later_one_is_not(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    first = taken(host)
    with pytest.raises(Conflict, match="runs in this network namespace already"):
        taken(host)
    first.close()
    taken(host).close()


LOCK = "lock = socket.socket(socket.AF_UNIX); lock.bind(chr(0) + 'cellnet-agent'); lock.listen()"


def test_one_that_was_killed_is_waited_for_until_its_last_thread_has_ended(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    with without_first_thread(host.start, has=LOCK) as dying:
        ended_late(host, dying)


def test_one_that_was_killed_as_it_started_a_tool_is_waited_for_until_that_is_a_program_of_its_own(
    netns: Callable[[str], Netns],
) -> None:
    host = netns("host")
    program = f"""
import os, signal, socket, sys
{LOCK}
if os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os.execvp("sleep", ["sleep", "600"])
os.kill(os.getpid(), signal.SIGKILL)
"""
    with host.start(sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        tool = int(killed.stdout.readline())
        try:
            ended_late(host, killed)
            assert start_time(tool) is not None
        finally:
            os.kill(tool, signal.SIGKILL)


def ended_late(host: Netns, holder: "subprocess.Popen[bytes]") -> None:
    """The lock is held until the holder's input is closed, and is taken by one that has begun to ask for it before."""
    assert holder.stdin is not None
    with pytest.raises(Conflict):
        taken(host)
    letting_go = threading.Timer(0.3, holder.stdin.close)
    letting_go.start()
    run_in(host.path, lambda: lock.take(on_foreign=print)).close()
    letting_go.join()


def test_every_namespace_has_a_lock_of_its_own(netns: Callable[[str], Netns]) -> None:
    one, other = taken(netns("one")), taken(netns("other"))
    one.close()
    other.close()


def test_asking_again_and_again_never_lets_a_second_one_in(netns: Callable[[str], Netns]) -> None:
    """Longer than any queue of connections that are not accepted."""
    host = netns("host")
    first = taken(host)
    for _ in range(40):
        with pytest.raises(Conflict, match=f"process {os.getpid()}"):
            taken(host)
    first.close()


def test_a_lock_of_another_part_is_another_lock(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    first = taken(host)
    up = run_in(host.path, lambda: lock.take(lock.UP, on_foreign=print))
    with pytest.raises(Conflict, match="`cellnet up` runs"):
        run_in(host.path, lambda: lock.take(lock.UP, on_foreign=print, patience=0))
    up.close()
    first.close()


def test_an_agent_that_passed_over_a_stranger_is_found_after_the_strangers_end(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    with squatting(host, listens=True):
        held = taken(host)
    with pytest.raises(Conflict, match="runs in this network namespace already"):
        taken(host)
    held.close()
    taken(host).close()


FIRST = ("cellnet-agent",)


@contextmanager
def squatting(host: Netns, *, listens: bool, names: Sequence[str] = FIRST, wrap: Sequence[str] = NOBODY) -> Iterator[None]:
    """A process, without rights unless `wrap` says otherwise, that has names of the lock."""
    program = f"""
import socket, time
held = []
for name in {tuple(names)!r}:
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].bind(chr(0) + name)
    {"held[-1].listen()" if listens else ""}
print(flush=True)
time.sleep(600)
"""
    squatter = host.start(*wrap, "/usr/bin/python3", "-c", program, stdout=subprocess.PIPE)
    try:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        yield
    finally:
        squatter.kill()
        squatter.wait()


@pytest.mark.parametrize("listens", [True, False])
def test_a_holder_that_is_not_root_is_skipped_and_reported(netns: Callable[[str], Netns], listens: bool) -> None:
    host = netns("host")
    with squatting(host, listens=listens):
        strangers: list[int] = []
        held = taken(host, strangers=strangers)
        assert strangers == [65534]
        with pytest.raises(Conflict):
            taken(host, strangers=strangers)
        held.close()


def test_a_stranger_with_every_name_that_can_be_guessed_keeps_no_agent_out(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    strangers: list[int] = []
    with squatting(host, listens=True, names=[*FIRST, *(f"cellnet-agent.{number}" for number in range(100))]):
        held = taken(host, strangers=strangers)
        assert strangers == [65534], "reported once"
        with pytest.raises(Conflict):
            taken(host)
        held.close()


def test_a_stranger_with_a_connection_from_root_is_still_a_stranger(netns: Callable[[str], Netns]) -> None:
    """The connection that waits to be accepted has the listener's name, and was made by root."""
    host = netns("host")
    with squatting(host, listens=True), run_in(host.path, lambda: socket.socket(socket.AF_UNIX)) as caller:
        caller.connect("\0cellnet-agent")
        taken(host).close()


def test_an_agent_in_another_pid_namespace_is_an_agent(netns: Callable[[str], Netns]) -> None:
    """Seen from a container that shares the network namespace: its /proc does not show the holder."""
    host = netns("host")
    held = taken(host)
    asks = "from agent.daemon import lock; lock.take(on_foreign=print, patience=0)"
    inside = ("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", asks)
    with host.start(*inside, stderr=subprocess.PIPE) as asking:
        assert asking.stderr is not None
        assert b"an agent runs in this network namespace already (a process in another pid namespace)" in asking.stderr.read()
    held.close()


def test_of_many_that_start_at_once_exactly_one_has_the_lock(netns: Callable[[str], Netns]) -> None:
    """With a stranger on the first name, so that each binds a name of its own."""
    host = netns("host")

    def attempt(number: int) -> socket.socket | None:
        gate.wait()
        try:
            return lock.take(on_foreign=lambda _: None, token=lambda: str(number), patience=0.05)
        except Conflict:
            return None

    with squatting(host, listens=False), ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            gate = threading.Barrier(6)
            found = list(pool.map(lambda number: run_in(host.path, lambda: attempt(number)), range(6)))
            winners = [each for each in found if each is not None]
            assert len(winners) == 1
            winners[0].close()


def test_one_that_has_bound_first_and_never_goes_on_is_a_conflict_in_the_end(
    netns: Callable[[str], Netns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOOKS", 3)
    host = netns("host")
    with squatting(host, listens=False, names=["cellnet-agent.zz"], wrap=()), pytest.raises(Conflict):
        taken(host)
