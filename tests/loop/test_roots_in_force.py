"""A cell's word on its roots: never ahead of what apps, the loop and Envoy have taken, never behind what they give up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from agent.loop.roots_in_force import RootsInForce, careful
from agent.model.cell import RootsInUse
from dataplane.state import HostState, Leaf, TlsListener, Workload
from tests.testlib.beside import beside
from tests.testlib.fakes.kernel import FACTS
from tests.testlib.patience import eventually_async

OLD, NEW = "0" * 64, "1" * 64
OLD_LEAF, NEW_LEAF = Leaf(b"old", b"key"), Leaf(b"new", b"key")
ADDRESS = IPv4Address("10.255.1.2")


@dataclass
class Trusted:
    """As `Leaves.trust`; its bundle is the roots' names."""

    roots: frozenset[str]

    @property
    def bundle(self) -> bytes:
        return " ".join(sorted(self.roots)).encode()


@dataclass
class Scene:
    """What this cell wants, what the loop has applied of it, and whether Envoy has followed."""

    trust: Trusted = field(default_factory=lambda: Trusted(frozenset({OLD})))
    roots: frozenset[str] = frozenset({OLD})
    leaf: Leaf = OLD_LEAF
    taken: bool = True
    said: list[RootsInUse] = field(default_factory=list)
    state: HostState | None = None

    def all(self) -> dict[str, Leaf]:
        """As `Leaves.all`."""
        return {"web": self.leaf}

    def turn(self) -> None:
        """The loop applies what is wanted."""
        web = Workload("web", ADDRESS, 1, Path("/pin"), listeners=(TlsListener(61443, self.leaf, 8080),))
        self.state = HostState(FACTS.overlay, FACTS.subnet, 1450, {ADDRESS: web}, trust_bundle=self.trust.bundle)

    def made(self, before: RootsInUse) -> RootsInForce:
        leaves: Any = self
        return RootsInForce(leaves, say=self.said.append, before=before)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@contextlib.asynccontextmanager
async def running(scene: Scene, before: RootsInUse) -> AsyncIterator[RootsInForce]:
    made = scene.made(before)
    async with beside(made.run(lambda: scene.state, taken=lambda: scene.taken)):
        yield made


def word(trusts: str, signs_with: str) -> RootsInUse:
    names = {"o": OLD, "n": NEW}
    return RootsInUse(tuple(names[each] for each in trusts), tuple(names[each] for each in signs_with))


@pytest.mark.parametrize(
    ("wanted", "confirmed", "told"),
    [
        (("on", "o"), ("o", "o"), ("o", "o")),
        (("on", "n"), ("on", "o"), ("on", "on")),
        (("n", "n"), ("on", "n"), ("n", "n")),
        (("n", "n"), ("", ""), ("", "n")),
        (("n", "n"), ("o", "o"), ("", "on")),
    ],
)
def test_the_careful_word_gives_up_at_once_and_takes_on_later(
    wanted: tuple[str, str], confirmed: tuple[str, str], told: tuple[str, str]
) -> None:
    assert careful(word(*wanted), word(*confirmed)) == word(*told)


async def test_a_new_root_is_trusted_by_word_once_the_loop_and_envoy_have_it(scene: Scene) -> None:
    scene.turn()
    async with running(scene, word("o", "o")) as made:
        scene.trust.roots, scene.taken = frozenset({OLD, NEW}), False
        made.look()
        await asyncio.sleep(0.05)
        assert scene.said[-1] == word("o", "o"), "the loop has not published it"
        scene.turn()
        await asyncio.sleep(0.05)
        assert scene.said[-1] == word("o", "o"), "Envoy has not taken it"
        scene.taken = True
        await eventually_async(lambda: scene.said[-1] == word("on", "o"))


async def test_a_former_root_is_signed_with_by_word_until_envoy_has_the_last_new_leaf(scene: Scene) -> None:
    scene.trust.roots = frozenset({OLD, NEW})
    scene.turn()
    async with running(scene, word("on", "o")) as made:
        scene.roots, scene.leaf, scene.taken = frozenset({NEW}), NEW_LEAF, False
        made.look()
        assert scene.said[-1] == word("on", "on")
        scene.taken = True
        await asyncio.sleep(0.05)
        assert scene.said[-1] == word("on", "on"), "what Envoy has taken is older"
        scene.turn()
        await eventually_async(lambda: scene.said[-1] == word("on", "n"))


async def test_a_root_that_is_taken_back_is_out_of_the_word_before_anything_else_happens(scene: Scene) -> None:
    scene.trust.roots, scene.roots = frozenset({NEW}), frozenset({NEW})
    async with running(scene, word("on", "n")) as made:
        made.look()
        assert scene.said == [word("n", "n")]


async def test_at_a_start_the_last_runs_word_holds_and_a_first_start_has_none(scene: Scene) -> None:
    async with running(scene, word("o", "o")) as made:
        made.look()
        assert scene.said == [word("o", "o")]
    scene.said.clear()
    async with running(scene, RootsInUse()) as made:
        made.look()
        assert scene.said == [word("", "o")]
        scene.turn()
        await eventually_async(lambda: scene.said[-1] == word("o", "o"))
