"""What a full etcd costs a cell: 60,000 policies among 5,000 apps and 1,000 cells, from a start to one policy's change.

Each app has a route and five instances' numbers, and one of each is claimed as an attach does it.

The records are written straight into an etcd, as cells write them. What is measured is the agent's own work, without a kernel:
the copy, what it means, the policies, the tags, and what a destination's rights follow from. `stretch` is the longest time in
which the event loop did nothing else, while everything was read again.
"""

import asyncio
import contextlib
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path

import click

from agent.config.etcd import Etcd as Config
from agent.config.etcd import endpoint
from agent.model.names import AppName, Space
from agent.policy.endings import Endings
from agent.policy.in_force import PoliciesInForce
from agent.policy.language import language
from agent.policy.language.documents import document
from agent.policy.tags_in_use import TagsInUse
from agent.store.database import Database
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.disk_copy import DiskCopy
from agent.store.etcd.keys import Keys
from agent.store.etcd.names.records import IndexClaim, encode_index, encode_route_claim
from agent.store.etcd.store import EtcdStore
from agent.store.etcd.transactions import nested
from agent.store.protocols import StoredPolicy
from agent.store.subnets import SubnetClaim
from agent.store.tags import TagClaim
from bench.reports.comparison import Figure
from bench.script import compared, options
from lab.etcd import Etcd

POLICIES, APPS, CELLS, HERE = 60_000, 5_000, 1_000, 250
PREFIX = "/cellnet"
BATCH = 2_000
TICK = 0.002
MEMORY = "memory"
CHANGES = 50
INSTANCES = 5
SECOND = 1000.0


def app(number: int) -> AppName:
    """Ten to a space, five spaces to an org."""
    return AppName(f"org{number // 50}", f"space{number // 10 % 5}", f"app{number % 10}-{number}")


def policy(number: int, *, port: int = 8080) -> StoredPolicy:
    """One source, one destination, one port."""
    made = language.allowed(
        str(app(number * 7 % APPS)), str(app(number % APPS)), [f"tcp/{port + number // APPS}"], name=f"p{number:05}"
    )
    return StoredPolicy(made.name, document(made))


def writes() -> Iterator[rpc.RequestOp]:
    """All records."""
    keys = Keys(PREFIX)
    for number in range(POLICIES):
        made = policy(number)
        yield put(keys.policy(made.name), records.encode_policy(made))
    for number in range(APPS):
        yield put(keys.app(app(number)), records.encode_tag(TagClaim(number + 1)))
        yield put(keys.number(number + 1), str(app(number)).encode())
        cell = f"cell-{number % CELLS}"
        yield put(keys.claimed_route(f"route-{number}.apps.internal"), encode_route_claim(Space.of(app(number)), cell=cell))
        for index in range(INSTANCES):
            yield put(keys.index(app(number), index), encode_index(IndexClaim(cell, f"{number}-{index}")))
    for number in range(CELLS):
        subnet = IPv4Network((int(IPv4Network("10.0.0.0/8").network_address) + (number << 8), 24))
        yield put(keys.subnet(subnet), records.encode_subnet(subnet, SubnetClaim(f"id{number}", f"cell-{number}")))
        needed = [app((number * 5 + each) % APPS) for each in range(5)]
        yield put(keys.needed(f"cell-{number}"), records.encode_needed(needed))


async def fill(client: EtcdClient) -> None:
    """Put them there."""
    batch: list[rpc.RequestOp] = []
    for each in writes():
        batch.append(each)
        if len(batch) == BATCH:
            await client.commit(do=nested(batch))
            batch.clear()
    await client.commit(do=nested(batch))


class Agent:
    """The parts of an agent that a change of the store passes through."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.database = Database(folder / "cellnet.db")
        self.client = EtcdClient(config)
        self.store = EtcdStore(self.client, prefix=PREFIX, cell="cell-0", disk_copy=DiskCopy(self.database))
        (folder / "policies.d").mkdir(exist_ok=True)
        endings = Endings(folder / "latest-time", now=time.time)
        self.policies = PoliciesInForce(folder / "policies.d", last_good=folder / "good", store=self.store, endings=endings)
        self.tagging = TagsInUse(self.store, earliest=time.time, latest=time.time, shared=self.store)
        self.here = [app(number) for number in range(HERE)]

    async def turn(self) -> int:
        """What a turn of the loop asks: the rights of this cell's apps."""
        in_force = await self.policies.in_force()
        tags = await self.tagging.follow(in_force, ())
        resolve = await self.policies.resolver(tags)
        self.policies.groups()
        return sum(len(resolve(each)) for each in self.here)

    async def close(self) -> None:
        """Give up files and connections."""
        await self.client.close()
        self.database.close()


@contextlib.asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[None]:
    """With the store followed."""
    task = asyncio.get_running_loop().create_task(agent.store.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Stall:
    """The longest time that the event loop worked without coming round, of the processor's time."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        """For ever."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(TICK)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


@contextlib.asynccontextmanager
async def stalls() -> AsyncIterator[Stall]:
    """Watched meanwhile."""
    stall = Stall()
    task = asyncio.get_running_loop().create_task(stall.watch())
    await asyncio.sleep(0.05)
    stall.longest = 0.0
    try:
        yield stall
    finally:
        await asyncio.sleep(0.05)
        task.cancel()


async def measure(config: Config, folder: Path) -> dict[str, float]:
    """Name -> milliseconds, or megabytes."""
    found: dict[str, float] = {}
    client = EtcdClient(config)
    await fill(client)
    await client.close()
    agent, began, worked = Agent(config, folder), time.perf_counter(), time.process_time()
    await agent.store.mirror.refresh()
    found["first reading"] = (time.perf_counter() - began) * SECOND
    assert await agent.turn()
    found["start to first rights"] = (time.perf_counter() - began) * SECOND
    found["start to first rights, processor time"] = (time.process_time() - worked) * SECOND
    async with running(agent):
        while not agent.store.mirror.following:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(TICK)
        await agent.turn()
        found |= await changes(agent)
        found |= await claims(agent)
        async with stalls() as stall:
            await agent.store.mirror.refresh()
            await agent.turn()
        found["longest stretch while all is read again"] = stall.longest * SECOND
        found[MEMORY] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    await agent.close()
    began = time.perf_counter()
    again = Agent(config, folder)
    assert await again.turn()
    found["start from the disk, without etcd"] = (time.perf_counter() - began) * SECOND
    await again.close()
    return found


async def changes(agent: Agent) -> dict[str, float]:
    """One policy at a time."""
    applied, worked = list[float](), list[float]()
    for number in range(CHANGES):
        place = number * 997 % POLICIES
        began = time.perf_counter()
        await agent.store.apply_policies([policy(place, port=10_000 + number)])
        middle = time.perf_counter()
        await agent.turn()
        ended = time.perf_counter()
        applied.append((middle - began) * SECOND)
        worked.append((ended - middle) * SECOND)
    idle = time.perf_counter()
    await agent.turn()
    return {
        "one policy: etcd and the copy, median": median(applied),
        "one policy: the turn's work, median": median(worked),
        "one policy: the turn's work, worst": max(worked),
        "a turn without a change": (time.perf_counter() - idle) * SECOND,
    }


async def claims(agent: Agent) -> dict[str, float]:
    """What an attach claims, one at a time, and beside it what a transaction takes that does as much."""
    numbers, routes, written = list[float](), list[float](), list[float]()
    names, space = agent.store.names, Space("org0", "space0")
    for number in range(CHANGES):
        began = time.perf_counter()
        await names.indexes.claim_index(app(number), name=f"new-{number}", wanted=None, avoid=())
        middle = time.perf_counter()
        await names.routes.claim_route(f"new-{number}.apps.internal", space)
        after = time.perf_counter()
        await agent.client.commit(do=[put(f"/beside/{number}", b"x" * 50)])
        numbers.append((middle - began) * SECOND)
        routes.append((after - middle) * SECOND)
        written.append((time.perf_counter() - after) * SECOND)
    return {
        "an instance's number: etcd, median": median(numbers),
        "a new route: etcd and the copy, median": median(routes),
        "a bare transaction, median": median(written),
    }


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]


def figures(rounds: int) -> tuple[Figure, ...]:
    """Each time with an etcd and an agent's files of its own; the memory is that of the process, which only grows."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            etcd = Etcd(folder / "etcd", netns=None, host="127.0.0.1", port=23790, peer_port=23800)
            etcd.start()
            try:
                measured = asyncio.run(measure(Config(endpoints=(endpoint(etcd.url),)), folder))
            finally:
                etcd.kill()
        for what, value in measured.items():
            found.setdefault(what, []).append(value)
    setting = f"{POLICIES:,} policies, {APPS:,} apps, {CELLS:,} cells"
    return tuple(Figure(what, setting, "MB" if what == MEMORY else "ms", tuple(values)) for what, values in found.items())


@click.command()
@options(rounds=1, runs=1)
def store(*, rounds: int, runs: int, results: Path) -> None:
    """A full etcd."""
    compared("store", lambda: figures(rounds * runs), results=results)


if __name__ == "__main__":
    store()
