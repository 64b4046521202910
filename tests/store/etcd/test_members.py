"""An etcd of three members, each of which may die: whichever cells were connected to, they go on with the others."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.config.etcd import Etcd as Config
from agent.errors import Unavailable
from agent.store.etcd.store import EtcdStore
from agent.store.protocols import StoredPolicy
from tests.testlib.patience import eventually_async
from tests.testlib.stores.etcd import Etcd
from tests.testlib.stores.shared import EtcdCells


class Member(Etcd):
    """One of several, each of which knows the others before it starts."""

    cluster: Sequence["Member"] = ()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def peer(self) -> str:
        return self._peer

    def _server_options(self) -> Sequence[str]:
        """The later of two words counts."""
        everybody = ",".join(f"{each.name}={each.peer}" for each in self.cluster)
        return ("--name", self.name, "--initial-cluster", everybody, "--heartbeat-interval", "50", "--election-timeout", "500")


@pytest.fixture
def members(tmp_path: Path) -> Iterator[tuple[Member, ...]]:
    made = tuple(Member(tmp_path / name) for name in ("first", "second", "third"))
    try:
        for each in made:
            each.cluster = made
            each.begin()
        for each in made:
            each.await_well()
        yield made
    finally:
        for each in made:
            each.kill()


async def applied(store: EtcdStore, name: str) -> None:
    """Written, perhaps after some tries: the members choose a new leader first."""
    for _ in range(200):
        with contextlib.suppress(Unavailable):
            await store.apply_policies([StoredPolicy(name, "text")])
            return
        await asyncio.sleep(0.1)
    pytest.fail("no member takes it")


async def test_whichever_member_dies_cells_go_on_with_the_others(members: tuple[Member, ...]) -> None:
    config = Config(endpoints=tuple(each.endpoint for each in members))
    async with contextlib.AsyncExitStack() as stack:
        cells = EtcdCells(members[0], stack)
        one, two = cells.store("one", etcd=config), cells.store("two", etcd=config)
        expected: list[str] = []

        async def known() -> bool:
            return [each.name for each in await two.policies()] == expected

        for number, each in enumerate(members):
            each.kill()
            await applied(one, f"p{number}")
            expected.append(f"p{number}")
            await eventually_async(known)
            each.start()
        await eventually_async(lambda: one.mirror.problem is None and two.mirror.problem is None)
