"""`cellnet agent`: the daemon from its first line to its last. The only place that starts tasks; `build.py` makes the objects.

Start: lock, state, CA, certificates, policies; then the first turn of the loop, which makes the kernel right and cuts what
is no longer allowed; only then do Envoy and clients get an answer, so that no client ever sees half a picture.
End: the sockets close; kernel, pins and Envoy's configuration stay, so that traffic goes on without an agent.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from agent import last_start, log
from agent.complaint import Complaints
from agent.config.config import Config
from agent.control.server import serve
from agent.daemon import lock
from agent.daemon.build import Agent, Work, build
from agent.daemon.clock import Clock, utc_now
from agent.daemon.lock import ForeignHolders
from agent.daemon.tasks import TaskFailures, lasting
from agent.envoy.process import raise_descriptor_limit
from agent.errors import RAISED, HostRefused
from agent.notify import notify
from agent.pacing import wait_for_event

AGAIN = 1.0  # seconds


def run_agent(config: Config, *, load: Callable[[], Config] | None = None, clock: Clock | None = None) -> int:
    """Run until SIGTERM or SIGINT, by the host's clock or by `clock`; returns 0. `load` reads the configuration anew.

    Raises what keeps the agent from starting.
    """
    log.configure(level=config.log.level)
    raise_descriptor_limit()
    foreign: list[int] = []
    with lock.take(on_foreign=foreign.append):
        for uid in foreign:
            log.get("daemon").warning("lock_held_by_another_user", uid=uid)
        last_start.remove(config.paths.control_socket.parent)
        try:
            return asyncio.run(
                _main(config, load=load or (lambda: config), foreign_holders=ForeignHolders(*foreign), clock=clock or Clock())
            )
        except BaseExceptionGroup as group:
            error = _first_known(group)
            _leave_note(error, config)
            raise error from group
        except RAISED as error:
            _leave_note(error, config)
            raise


def _leave_note(error: BaseException, config: Config) -> None:
    """For clients of an agent that is not there."""
    if isinstance(error, RAISED):
        last_start.refused(config.paths.control_socket.parent, error, now=utc_now())


def _first_known(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """An error that an operator can act on, out of the group that a TaskGroup makes of it; the group itself if it is a mistake
    of our own."""
    known, others = group.split(RAISED)
    if known is None or others is not None:
        return group
    found: BaseException = known
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _main(config: Config, *, load: Callable[[], Config], foreign_holders: ForeignHolders, clock: Clock) -> int:
    stop, reload = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    failures = TaskFailures(clock.elapsed)
    built = build(config, load=load, signals=reload, foreign_holders=foreign_holders, failures=failures, clock=clock)
    async with built as agent, asyncio.TaskGroup() as tasks:
        begin = partial(_begin, tasks, failures=failures)
        agent.recover()
        running = begin(agent.from_start)
        if await _prepared(agent.preparations, stop, config=config):
            async with serve(agent.routes, path=config.paths.control_socket, tell=agent.history.add):
                running += begin(agent.tasks)
                await _ready(agent, stop, config=config)
        for task in running:
            task.cancel()
    return 0


def _begin(tasks: asyncio.TaskGroup, work: Iterable[Work], *, failures: TaskFailures) -> list[asyncio.Task[None]]:
    return [lasting(tasks, begin, name=name, failures=failures) for name, begin in work]


async def _ready(agent: Agent, stop: asyncio.Event, *, config: Config) -> None:
    """Report it, and wait for `stop`."""
    logger = log.get("daemon")
    gc.freeze()  # what is loaded by now stays: each look through it for garbage takes 60 ms, in which no client is served
    last_start.remove(config.paths.control_socket.parent)
    notify("READY=1\nSTATUS=enforcing")
    logger.info("ready", cell=config.cell, subnet=str(agent.subnet), pid=os.getpid())
    await stop.wait()
    notify("STOPPING=1")
    logger.info("stopping")


async def _prepared(steps: Iterable[Callable[[], Awaitable[None]]], stop: asyncio.Event, *, config: Config) -> bool:
    """Take steps that a host may refuse, each again and again for as long as it takes. False if the agent is to stop first."""
    complaints = Complaints(log.get("daemon"), failed="not_ready")
    for step in steps:
        while not stop.is_set():
            try:
                await step()
                break
            except HostRefused as error:
                complaints.about(error)
                _leave_note(error, config)
            await wait_for_event(stop, within=AGAIN)
    return not stop.is_set()
