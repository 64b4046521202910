"""`cellnet up`: the host's daemons as children of one process in the foreground, each started again when it ends.

Stopping it changes nothing in the kernel. A second one takes over what is left; a lock of its own keeps two apart, and it
starts nothing beside an agent that is not its child: a second Envoy would take the first one's callers.
"""

import signal
import sys
import time
from types import FrameType

from agent import log
from agent.config.config import Config
from agent.daemon import lock
from agent.errors import Conflict
from agent.pacing import Backoff
from host import process

CHILDREN = ("agent", "envoy", "dns", "dns-hop")
"""Each is a command of `cellnet`."""
FIRST_WAIT, LONGEST_WAIT, STABLE = 0.4, 10.0, 30.0
STOP_SECONDS = 10.0
REFUSED = 2  # exit code of wrong usage


class SupervisedCommand:
    """One of the children: started when it is due, and again when it has ended."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: process.Running | None = None
        self._starts = 0
        self._started = self._due = 0.0
        self._backoff = Backoff(first=FIRST_WAIT, longest=LONGEST_WAIT)

    def tend(self) -> bool:
        """Start it if it is due. Returns whether to give up: its very first start is refused, as for a mistake in agent.yaml.

        A later start is tried again whatever it says: a mistake that was made since must not take down what still runs. So is
        that of the agent's siblings: they read the same agent.yaml, and the programs that they become have codes of their own.
        """
        now = time.monotonic()
        if self._process is None:
            if now >= self._due:
                # -P: the folder that we happen to be in must not shadow a module
                self._process = process.start([sys.executable, "-P", "-m", "agent", *_globals(), self._name])
                self._started, self._starts = now, self._starts + 1
            return False
        code = self._process.poll()
        if code is None:
            return False
        self._process = None
        if now - self._started > STABLE:
            self._backoff.reset()
        wait = self._backoff.next()
        self._due = now + wait
        log.get("up").warning("ended", part=self._name, code=code, again_in_seconds=wait)
        return code == REFUSED and self._starts == 1 and self._name == "agent"

    def reload(self) -> None:
        """Ask it to read its configuration again, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def terminate(self) -> process.Running | None:
        """Ask it to end; the process, if it runs."""
        if self._process is not None:
            self._process.terminate()
        return self._process


def run_up(config: Config) -> int:
    """Supervise until SIGTERM or SIGINT, then stop the children. Returns 0, or 1 if the agent refuses to start at all.

    Raises Conflict where another `up`, or an agent that does not end, is at work in this network namespace.
    """
    log.configure()
    with lock.take(lock.UP, on_foreign=lambda uid: log.get("up").warning("lock_held_by_another_user", uid=uid)):
        _await_former_agent(seconds=STOP_SECONDS)
        return _supervise(config)


def _await_former_agent(*, seconds: float) -> None:
    """Wait for the agent of an `up` that was killed: it is asked to end when that dies."""

    def say(why: Conflict) -> None:
        log.get("up").warning("waits", what=why.what, seconds=seconds)

    lock.take(on_foreign=lambda _uid: None, on_wait=say, patience=seconds).close()  # the agent itself will report other users


def _supervise(config: Config) -> int:
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    def reload(_signal: int, _frame: FrameType | None) -> None:
        children[0].reload()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    children = [SupervisedCommand(name) for name in CHILDREN]
    signal.signal(signal.SIGHUP, reload)
    log.get("up").info("up", cell=config.cell, socket=str(config.paths.control_socket))
    try:
        while not stopping:
            if any(child.tend() for child in children):
                return 1
            time.sleep(0.05)
    finally:
        _stop(children)
    return 0


def _globals() -> list[str]:
    """`--root` and `--config` as we were given them: the children must read the same configuration."""
    words = sys.argv[1:]
    last = max((place for place, word in enumerate(words) if word == "up"), default=0)  # a folder may be called `up` too
    return words[:last]


def _stop(children: list[SupervisedCommand]) -> None:
    running = [each for child in children if (each := child.terminate()) is not None]
    end = time.monotonic() + STOP_SECONDS
    for each in running:
        if not process.ended_within(each, end - time.monotonic()):
            each.kill()
            process.ended_within(each, 1.0)
