"""A rotation of the root over the API of any cell: no step before all cells are ready, whatever comes in whatever order."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control.api.rotation import GRACE, RotationApi, RotationView
from agent.errors import Conflict, InvalidInput
from agent.identity.rotation import Step
from agent.identity.trust import published
from agent.model.cell import CellRecord, RootsInUse
from agent.model.rotation import Rotation
from ca.authority import Authority, make_root
from ca.pem import fingerprint
from tests.testlib.certificates import TODAY, TRUST_DOMAIN
from tests.testlib.fakes.store import MemoryStore

OLD, NEW, OTHER = (make_root(trust_domain=TRUST_DOMAIN, now=TODAY, lifetime=timedelta(days=99)) for _ in range(3))
NAMES = {fingerprint(each.certificate): word for each, word in ((OLD, "old"), (NEW, "new"), (OTHER, "other"))}


def short(names: Any) -> str:
    """Roots as words."""
    return " ".join(sorted(NAMES[each] for each in names))


@dataclass
class OwnTrust:
    """As `Leaves.trust`."""

    own_root: bytes


@dataclass
class CellOfStore:
    """A cell as far as its roots go. It trusts and signs with what it has taken, and says so later, to the careful side."""

    name: str
    store: MemoryStore
    now: list[float]
    root: Authority = OLD
    trusts: frozenset[str] = frozenset()
    signs_with: frozenset[str] = frozenset()
    trust: OwnTrust = field(init=False)
    trust_domain: str = TRUST_DOMAIN

    def __post_init__(self) -> None:
        self.trust = OwnTrust(self.root.bundle())
        mine = frozenset({fingerprint(self.root.certificate)})
        self.trusts, self.signs_with = self.trusts or mine, self.signs_with or mine
        leaves: Any = self
        self.api = RotationApi(
            self.name, leaves, own=lambda: self.word, store=self.store, cells=self.store, shared=None,
            elapsed=lambda: self.now[0], now=lambda: TODAY,
        )  # fmt: skip

    def look(self) -> None:
        """As `Leaves.look`."""

    @property
    def word(self) -> RootsInUse:
        return RootsInUse(tuple(sorted(self.trusts)), tuple(sorted(self.signs_with)))

    async def say(self) -> None:
        """Announce what is in force."""
        await self.store.announce(self.record(self.word))

    def record(self, roots: RootsInUse) -> CellRecord:
        number = int(self.name[-1])
        place, address = IPv4Network(f"10.255.{number}.0/24"), IPv4Address("192.0.2.0") + number
        return CellRecord(self.name, self.name, place, address, "0.1", roots=roots)

    async def take_bundle(self) -> None:
        """Trust what is published now. What is given up is out of its word before it is out of force."""
        there = frozenset(published(await self.store.trust(), trust_domain=TRUST_DOMAIN))
        wanted = there | {fingerprint(self.root.certificate)}
        await self.store.announce(self.record(replace(self.word, trusts=tuple(sorted(wanted & self.trusts)))))
        self.trusts = wanted

    async def take_root(self, root: Authority) -> None:
        """Sign with another root; leaves of the former one are left for a while."""
        self.root, self.trust = root, OwnTrust(root.bundle())
        self.signs_with |= {fingerprint(root.certificate)}
        await self.say()

    async def renew_leaves(self) -> None:
        """The last of these goes."""
        self.signs_with = frozenset({fingerprint(self.root.certificate)})

    async def follow(self, root: Authority | None = None) -> None:
        """All of it at once."""
        if root is not None:
            await self.take_root(root)
        await self.take_bundle()
        await self.renew_leaves()
        await self.say()

    async def rotate(
        self, root: Authority | None = None, *, without: tuple[str, ...] = (), keep_former: bool = False
    ) -> RotationView:
        text = None if root is None else root.bundle().decode()
        return await self.api.advance(text, without=without, keep_former=keep_former, writer=None)


def cells(count: int = 3, *, root: Authority = OLD) -> tuple[CellOfStore, ...]:
    store, now = MemoryStore(), [0.0]
    return tuple(CellOfStore(f"cell-{number}", store.beside(), now, root) for number in range(1, count + 1))


async def alive(count: int = 3) -> tuple[CellOfStore, ...]:
    made = cells(count)
    for each in made:
        await each.say()
    return made


def awaited(found: RotationView) -> tuple[Step | None, str]:
    """The step, and the numbers of the cells that it waits for."""
    return found.step, " ".join(each.cell.removeprefix("cell-") for each in found.awaited)


async def test_three_steps_each_waits_for_all_and_any_cell_goes_on() -> None:
    one, two, three = await alive()
    assert awaited(await one.rotate(NEW)) == (Step.TRUST, "1 2 3")
    assert short(published(await one.store.trust(), trust_domain=TRUST_DOMAIN)) == "new old"
    await one.follow()
    await three.follow()
    assert awaited(await two.rotate()) == (Step.TRUST, "2")
    await two.follow()
    found = await three.rotate()
    assert awaited(found) == (Step.SIGN, "1 2 3")
    assert [each.hint for each in found.awaited][1].startswith("run 'cellnet ca issue-cell --cell cell-2 --out cell-2'")
    await two.follow(NEW)
    await one.follow(NEW)
    await three.take_root(NEW)
    assert awaited(await one.rotate()) == (Step.SIGN, "3"), "leaves of the old root are left there"
    await three.follow()
    found = await one.rotate()
    assert awaited(found) == (Step.END, "1 2 3")
    assert short(found.published) == "new"
    for each in (one, two):
        await each.follow()
    assert awaited(await two.rotate()) == (Step.END, "3")
    await three.follow()
    assert awaited(await two.rotate()) == (Step.DONE, "")
    assert await one.store.rotation() is None
    assert awaited(await one.api.shown()) == (None, "")
    again = await one.rotate(NEW)
    assert (awaited(again), await one.store.rotation()) == ((Step.DONE, ""), None), "the same command again changes nothing"


async def test_what_goes_is_what_this_cell_signed_with_and_other_roots_stay() -> None:
    one, two, _ = await alive()
    await one.store.set_trust(OTHER.bundle() + OLD.bundle())
    await two.follow(OTHER)
    for each in (one, two, _):
        await each.follow()
    await one.rotate(NEW)
    for each in (one, two, _):
        await each.follow()
    assert awaited(await one.rotate()) == (Step.SIGN, "1 3"), "the second signs with a root that stays"
    assert awaited(await two.rotate()) == (Step.SIGN, "1 2 3"), "until it is asked there"
    for each in (one, two, _):
        await each.follow(NEW)
    await one.rotate()
    assert short(published(await one.store.trust(), trust_domain=TRUST_DOMAIN)) == "new"


async def test_a_rotation_can_be_given_another_end_and_go_back() -> None:
    one, two, three = everyone = await alive()
    await one.rotate(NEW)
    for each in everyone:
        await each.follow()
    await two.follow(NEW)
    back = await one.rotate(OLD)
    assert (awaited(back), short(back.former)) == ((Step.SIGN, "2"), "new")
    await two.follow(OLD)
    await three.rotate()
    for each in everyone:
        await each.follow()
    assert awaited(await one.rotate()) == (Step.DONE, "")
    assert short(published(await one.store.trust(), trust_domain=TRUST_DOMAIN)) == "old"


async def test_the_former_root_stays_trusted_for_as_long_as_it_is_asked() -> None:
    everyone = await alive()
    await everyone[0].rotate(NEW)
    for each in everyone:
        await each.follow()
        await each.follow(NEW)
    found = await everyone[0].rotate(keep_former=True)
    assert (awaited(found), short(found.published)) == ((Step.END, ""), "new old")
    assert short((await everyone[0].rotate()).published) == "new"


async def test_a_cell_that_lies_or_is_silent_only_delays_and_can_be_left_out() -> None:
    one, two, three = await alive()
    liar = replace(two.record(two.word), roots=RootsInUse(trusts=(), signs_with=tuple(NAMES)))
    await one.rotate(NEW)
    for each in (one, three):
        await each.follow()
        await each.follow(NEW)
    await two.store.announce(liar)
    found = await one.rotate()
    assert awaited(found) == (Step.TRUST, "2")
    assert "does not say which roots it trusts" in found.awaited[0].why
    with pytest.raises(InvalidInput, match="there is no cell 'cell-22'") as refused:
        await one.rotate(without=("cell-22",))
    assert refused.value.hint == "did you mean 'cell-2'?"
    found = await one.rotate(without=("cell-2",))
    assert (found.step, [each.cell for each in found.passed_over]) == (Step.END, ["cell-2"])
    for each in (one, three):
        await each.follow()
    assert (await one.rotate(without=("cell-2",))).step is Step.DONE


async def test_a_cell_without_a_sign_of_life_is_waited_for_a_while_and_then_passed_over() -> None:
    one, two, three = await alive()
    await one.rotate(NEW)
    for each in (one, two):
        await each.follow()
    three.store.lapse()
    one.now[0] = 5.0
    found = await one.rotate()
    assert awaited(found) == (Step.TRUST, "3")
    assert "gives no sign of life" in found.awaited[0].why
    one.now[0] += GRACE - 1
    assert awaited(await one.rotate()) == (Step.TRUST, "3")
    one.now[0] += 1
    found = await one.rotate()
    assert (awaited(found), [each.cell for each in found.passed_over]) == ((Step.SIGN, "1 2"), ["cell-3"])
    await three.say()
    assert awaited(await one.rotate()) == (Step.TRUST, "3"), "it is back"


async def test_a_cell_that_its_store_does_not_know_waits_for_itself() -> None:
    (one,) = cells(1)
    assert awaited(await one.rotate(NEW)) == (Step.TRUST, "1")


async def test_without_a_root_nothing_begins_and_without_its_certificate_nothing_goes_on() -> None:
    one, two, _ = await alive()
    with pytest.raises(InvalidInput, match="no rotation of the root is under way") as refused:
        await one.rotate()
    assert "cellnet ca rotate FILE" in refused.value.hint
    with pytest.raises(InvalidInput, match="these are 2 roots, and one can come"):
        await one.api.advance((OLD.bundle() + NEW.bundle()).decode(), without=(), keep_former=False, writer=None)
    await one.rotate(NEW)
    await one.store.set_trust(OLD.bundle())
    with pytest.raises(Conflict, match="is no longer published"):
        await one.rotate()
    assert awaited(await two.rotate(NEW)) == (Step.TRUST, "1 2 3")


class Model:
    """Cells, of which the last lies, and an operator, who do this and that at random."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.cells = cells(4)
        self.honest, self.liar = self.cells[:3], self.cells[3]
        self.issued: set[str] = set()
        self.step: Step | None = None

    async def run(self, steps: int) -> None:
        for each in self.cells:
            await each.say()
        for _ in range(steps):
            await self.do(self.chance.choice(["bundle", "renew", "say", "issue", "rotate", "rotate", "lie"]))
            self.assert_all_verify()

    async def do(self, what: str) -> None:
        cell = self.chance.choice(self.honest)
        actions: dict[str, Callable[[], Any]] = {
            "bundle": cell.take_bundle,
            "renew": cell.renew_leaves,
            "say": cell.say,
            "issue": lambda: self.issue(cell),
            "rotate": lambda: self.rotate(cell),
            "lie": self.lie,
        }
        await actions[what]()

    async def issue(self, cell: CellOfStore) -> None:
        """As the hint says, never before it does."""
        if cell.name in self.issued and cell.root is not NEW:
            await cell.take_root(NEW)

    async def rotate(self, cell: CellOfStore) -> None:
        found = await cell.rotate(NEW if self.chance.random() < 0.5 or await cell.store.rotation() is None else None)
        self.step = found.step
        if found.step is not Step.TRUST:
            self.issued |= {each.name for each in self.cells}

    async def lie(self) -> None:
        pick = [name for name in NAMES if self.chance.random() < 0.5]
        roots = RootsInUse(tuple(pick), tuple(name for name in NAMES if self.chance.random() < 0.5))
        await self.liar.store.announce(self.liar.record(roots))

    def assert_all_verify(self) -> None:
        for one in self.honest:
            for other in self.honest:
                assert other.signs_with <= one.trusts, f"{one.name} does not take {other.name}'s certificates"


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_at_no_moment_a_certificate_of_an_honest_cell_is_not_trusted_by_another(chance: random.Random) -> None:
    asyncio.run(Model(chance).run(120))


async def test_the_walk_comes_to_its_end_where_no_cell_lies() -> None:
    model = Model(random.Random(7))
    for each in model.cells:
        await each.say()
    for _ in range(60):
        for each in model.cells:
            await model.rotate(each)
            await model.issue(each)
            await each.follow()
        if model.step is Step.DONE:
            break
    assert short(published(await model.liar.store.trust(), trust_domain=TRUST_DOMAIN)) == "new"
    assert all(short(each.trusts | each.signs_with) == "new" for each in model.cells)
    assert await model.liar.store.rotation() in (None, Rotation(fingerprint(NEW.certificate), frozenset()))
