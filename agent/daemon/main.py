"""`cellnet agent`: the daemon from its first line to its last. The only place that starts tasks; `build.py` makes the objects.

Start: lock, state, CA, certificates, policies; then the first turn of the loop, which makes the kernel right and cuts what
is no longer allowed; only then do Envoy and clients get an answer, so nobody ever sees half a picture.
End: the sockets close; kernel, pins and Envoy's configuration stay, so that traffic goes on without an agent.
"""

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial

from agent import log
from agent.attach.owners import OwnerWatch
from agent.config.config import Config
from agent.control.server import serve
from agent.daemon import lock
from agent.daemon.build import Agent, build
from agent.daemon.clock import Clock
from agent.daemon.tasks import lasting
from agent.envoy.process import raise_descriptor_limit
from agent.errors import RAISED, HostRefused
from agent.last_start import Failure, note, retract
from agent.loop import drift
from agent.notify import notify
from agent.store.tending import tend_for_ever
from dataplane.firewall.backends import clear_other

AGAIN = 1.0  # seconds


def run_agent(config: Config, *, clock: Clock | None = None) -> int:
    """Run until SIGTERM or SIGINT, by the host's clock or by `clock`; returns 0.

    Raises what keeps the agent from starting.
    """
    log.configure()
    raise_descriptor_limit()
    strangers: list[int] = []
    with lock.take(on_stranger=strangers.append):
        for uid in strangers:
            log.get("daemon").warning("lock_held_by_stranger", uid=uid)
        try:
            return asyncio.run(_main(config, strangers=tuple(strangers), clock=clock or Clock()))
        except BaseExceptionGroup as group:
            raise _noted(_first_told(group), config) from group
        except RAISED as error:
            _noted(error, config)
            raise


def _noted(error: BaseException, config: Config) -> BaseException:
    """`error`, once those who ask for the agent can read it."""
    if isinstance(error, RAISED):
        note(config.paths.control_socket.parent, Failure(error.what, error.hint))
    return error


def _first_told(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What somebody can act on, out of the group that a TaskGroup makes of it; the group itself if it is our own mistake."""
    known, others = group.split(RAISED)
    if known is None or others is not None:
        return group
    found: BaseException = known
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _main(config: Config, *, strangers: tuple[int, ...], clock: Clock) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with build(config, strangers=strangers, clock=clock) as agent:
        agent.attaching.recover()
        agent.leaves.load(agent.attaching.present())
        async with asyncio.TaskGroup() as tasks:
            running = [lasting(tasks, agent.reconciler.run(), name="reconcile")]
            if agent.storage.run is not None:
                running.append(lasting(tasks, agent.storage.run(), name="store"))
            first = partial(_done_before, stop, config=config)
            if await first(partial(_enforced, agent)) and await first(partial(_clear_other_backend, agent)):
                await agent.ads.start()
                running += await _serve(agent, tasks, stop, config=config)
            for task in running:
                task.cancel()
    return 0


async def _serve(agent: Agent, tasks: asyncio.TaskGroup, stop: asyncio.Event, *, config: Config) -> list[asyncio.Task[None]]:
    """Answer until `stop`; the tasks that were started meanwhile."""
    logger = log.get("daemon")
    async with serve(agent.service, path=config.paths.control_socket):
        begun = partial(lasting, tasks)
        running = [
            begun(agent.policies.watch(agent.reconciler.kick), name="policies"),
            begun(drift.run(agent.reconciler, agent.monitor, underlay=agent.others.underlay), name="look"),
            begun(agent.listeners.run(), name="listeners"),
            begun(agent.leaves.run(agent.reconciler.kick), name="leaves"),
            begun(tend_for_ever(agent.database, agent.reconciler.kick), name="database"),
            begun(agent.pulse.run(), name="pulse"),
            begun(agent.others.announcement.run(), name="announcement"),
            begun(agent.tunnels.run(), name="tunnels"),
            begun(OwnerWatch(agent.attaching.sweep, agent.ledger).run(), name="owners"),
        ]
        gc.freeze()  # what is loaded by now stays: each look through it for garbage takes 60 ms, and nobody is served meanwhile
        retract(config.paths.control_socket.parent)
        notify("READY=1\nSTATUS=enforcing")
        logger.info("ready", cell=config.cell, subnet=str(agent.facts.subnet), pid=os.getpid())
        await stop.wait()
        notify("STOPPING=1")
        logger.info("stopping")
    return running


async def _enforced(agent: Agent) -> None:
    """The kernel must be right before anybody is served."""
    report = await agent.reconciler.settle()
    if report.problem is not None:
        raise report.problem


async def _clear_other_backend(agent: Agent) -> None:
    """Rules of ours that an earlier choice of backend left would go on refusing what is allowed now."""
    gone = await asyncio.wrap_future(agent.kernel.submit(lambda: clear_other(agent.backend)))
    if gone:
        log.get("daemon").info("other_backend_cleared", kept=agent.backend.value, chains=gone)


async def _done_before(stop: asyncio.Event, work: Callable[[], Awaitable[None]], *, config: Config) -> bool:
    """Do what a host may refuse, again and again for as long as that takes. False if the agent is to stop before it is done."""
    said = ""
    while not stop.is_set():
        try:
            await work()
        except HostRefused as error:
            if error.what != said:
                log.get("daemon").error("not_ready", what=error.what, hint=error.hint)
                _noted(error, config)
            said = error.what
        else:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN):
                await stop.wait()
    return False
