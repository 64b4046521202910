"""`cellnet up`: agent and Envoy as children of one process in the foreground, each started again when it ends.

Stopping it changes nothing in the kernel. A second one takes over what is left; a lock of its own keeps two apart, and it
starts nothing beside an agent that is not its child: a second Envoy would take the first one's callers.
"""

import signal
import sys
import time
from dataclasses import dataclass, field
from types import FrameType

from agent import log
from agent.config.config import Config
from agent.daemon import lock
from agent.errors import Conflict
from host import process

FIRST_WAIT, LONGEST_WAIT, STABLE = 0.2, 10.0, 30.0
STOP_SECONDS = 10.0
REFUSED = 2  # exit code of wrong usage: trying again would not help


@dataclass(slots=True)
class Child:
    """One of the parts: how to start it, and how it has fared."""

    word: str
    running: process.Running | None = None
    started: float = 0.0
    wait: float = FIRST_WAIT
    due: float = field(default=0.0)


def run_up(config: Config) -> int:
    """Supervise until SIGTERM or SIGINT, then stop the children. Returns 0, or 1 if the agent refuses to start at all.

    Raises Conflict where another `up`, or an agent that does not end, is at work in this network namespace.
    """
    log.configure()
    with lock.take(lock.UP, on_foreign=_tell_stranger):
        _await_lone(seconds=STOP_SECONDS)
        return _supervise(config)


def _tell_stranger(uid: int) -> None:
    log.get("up").warning("lock_held_by_stranger", uid=uid)


def _await_lone(*, seconds: float) -> None:
    """Wait for the agent of an `up` that was killed: it is asked to end when that dies."""
    end = time.monotonic() + seconds
    while True:
        try:
            lock.take(on_foreign=_ignored).close()
        except Conflict:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _ignored(_uid: int) -> None:
    """The agent itself will tell."""


def _supervise(config: Config) -> int:
    logger = log.get("up")
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    children = [Child("agent"), Child("envoy")]
    logger.info("up", cell=config.cell, socket=str(config.paths.control_socket))
    try:
        while not stopping:
            for child in children:
                if _tend(child) == REFUSED:
                    return 1
            time.sleep(0.05)
    finally:
        _stop(children)
    return 0


def _tend(child: Child) -> int | None:
    """Start what is due, and notice what has ended; returns its exit code then."""
    now = time.monotonic()
    if child.running is None:
        if now >= child.due:
            # -P: the folder that we happen to be in must not shadow a module
            argv = [sys.executable, "-P", "-m", "agent", *_globals(), child.word]
            child.running = process.start(argv)
            child.started = now
        return None
    code = child.running.poll()
    if code is None:
        return None
    child.running = None
    child.wait = FIRST_WAIT if now - child.started > STABLE else min(child.wait * 2, LONGEST_WAIT)
    child.due = now + child.wait
    log.get("up").warning("ended", part=child.word, code=code, again_in_seconds=child.wait)
    return code


def _globals() -> list[str]:
    """`--root` and `--config` as we were given them: the children must read the same configuration."""
    words = sys.argv[1:]
    last = max((place for place, word in enumerate(words) if word == "up"), default=0)  # a folder may be called `up` too
    return words[:last]


def _stop(children: list[Child]) -> None:
    running = [child.running for child in children if child.running is not None]
    for each in running:
        each.terminate()
    end = time.monotonic() + STOP_SECONDS
    for each in running:
        if not process.ended_within(each, end - time.monotonic()):
            each.kill()
            process.ended_within(each, 1.0)
