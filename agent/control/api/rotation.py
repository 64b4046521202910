"""`/v1/ca/rotation`: a root that takes the place of others on all cells, step by step (agent/identity/rotation.py).

Each request does what can be done now, and says which cells are awaited and why. So a root's owner asks again and again, of any
cell; the store knows which root it is. Nothing here touches a key.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from aiohttp import web
from pydantic import Field

from agent.control.bodies import OperatorBody, read_body
from agent.control.errors import answer
from agent.errors import Conflict, HostRefused, InvalidInput, NotFound, Unavailable
from agent.identity.leaves import Leaves
from agent.identity.rotation import Awaited, Standing, Step, Words, is_ready, standing
from agent.identity.trust import added, checked, published, remaining
from agent.model.cell import RootsInUse
from agent.model.credentials import StoreCredentials
from agent.model.rotation import Rotation
from agent.model.status import Part
from agent.store.protocols import CellStore, SharedStore, TrustStore
from agent.wording import did_you_mean, natural
from ca.pem import certificates, fingerprint

GRACE = 30.0  # seconds without a sign of life, after which a cell is passed over: two leases, as an etcd may only stutter
STORE_SECONDS = 2.0  # that a look waits for a store of many cells to answer
GIVE = "give the certificate of the root that is to come: 'cellnet ca rotate FILE'"


class RotationBody(OperatorBody):
    """`POST /v1/ca/rotation`: the root that is to come (PEM; without it the rotation that is under way goes on).

    `without` are cells not to wait for; with `keep_former` the roots that go stay trusted for now.
    """

    root: str | None = Field(default=None, min_length=1)
    without: tuple[str, ...] = ()
    keep_former: bool = False


@dataclass(frozen=True, slots=True)
class CellRoots:
    """What a cell says of its roots, by fingerprint; `alive`: whether it gives a sign of life."""

    name: str
    alive: bool
    trusts: tuple[str, ...]
    signs_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RotationView:
    """A rotation: its step, the root that comes and those that go. `step` is None where there is none.

    The step waits for the cells `awaited`, and not for those `passed_over`, though they are not ready; all cells trust the
    `published` roots.
    """

    step: Step | None
    root: str | None
    former: tuple[str, ...]
    awaited: tuple[Awaited, ...]
    passed_over: tuple[Awaited, ...]
    published: tuple[str, ...]
    cells: tuple[CellRoots, ...]


@dataclass(frozen=True, slots=True)
class RotationRow:
    """The step, and the names of the cells that it waits for."""

    step: Step
    awaited: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cells:
    """Words of all cells of the store, and how many seconds those without a sign of life have been without it."""

    words: Words
    silent: Mapping[str, float]

    def counted(self, without: Collection[str]) -> Words:
        """Those of the cells that are waited for."""
        return {name: word for name, word in self.words.items() if name not in without and self.silent.get(name, 0.0) < GRACE}


class RotationApi(Part):
    """The handlers. `name` is this cell's, `own` its word; `elapsed` is a clock in seconds that never jumps, `now` the time of
    day."""

    def __init__(
        self,
        name: str,
        leaves: Leaves,
        *,
        own: Callable[[], RootsInUse],
        store: TrustStore,
        cells: CellStore,
        shared: SharedStore | None,
        elapsed: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._leaves = leaves
        self._own = own
        self._store = store
        self._cells = cells
        self._shared = shared
        self._elapsed = elapsed
        self._now = now
        self._silent_since: dict[str, float] = {}

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/ca/rotation", self.show), web.post("/v1/ca/rotation", self.take_step)]

    async def show(self, _request: web.Request) -> web.Response:
        """Where it is."""
        return answer(await self.shown())

    async def take_step(self, request: web.Request) -> web.Response:
        """Begin it, or go on."""
        body = await read_body(RotationBody, request)
        given = self.advance(body.root, without=body.without, keep_former=body.keep_former, writer=body.credentials())
        return answer(await given)

    async def rows(self) -> Mapping[str, object]:
        """`rotation`, null where there is none."""
        rotation = await self._store.rotation()
        if rotation is None:
            return {"rotation": None}
        found = await self._view(rotation)
        return {"rotation": RotationRow(found.step or Step.DONE, tuple(each.cell for each in found.awaited))}

    async def shown(self) -> RotationView:
        """As far as is known here, if the store does not answer."""
        with contextlib.suppress(Unavailable, HostRefused, TimeoutError):
            await self._catch_up()
        return await self._view(await self._store.rotation())

    async def advance(
        self, root: str | None, *, without: Collection[str], keep_former: bool, writer: StoreCredentials | None
    ) -> RotationView:
        """Do what can be done now. Raises InvalidInput, Conflict, Unavailable, HostRefused; then nothing has changed."""
        await self._catch_up()
        self._leaves.look()
        self._refuse_unknown(without, await self._all_cells())
        rotation = await self._begun(root, writer=writer)
        found = await self._view(rotation, without=without)
        if found.step is Step.END and not found.awaited and not keep_former:
            await self._store.set_rotation(rotation, trust=await self._trust_without(rotation.former), writer=writer)
            found = await self._view(rotation, without=without)
        if found.step is Step.DONE:
            await self._store.set_rotation(None, trust=await self._store.trust(), writer=writer)
        return found

    async def _catch_up(self) -> None:
        """Steps are taken by what the store has now."""
        if self._shared is not None:
            async with asyncio.timeout(STORE_SECONDS):
                await self._shared.catch_up()

    def _refuse_unknown(self, without: Collection[str], cells: _Cells) -> None:
        for name in without:
            if name not in cells.words:
                hint = did_you_mean(name, cells.words, otherwise="`cellnet cell list` shows those there are")
                raise NotFound(f"there is no cell '{name}' in the store", hint=hint)

    async def _begun(self, given: str | None, *, writer: StoreCredentials | None) -> Rotation:
        """The rotation to this root, or the one that is under way; this cell's own root goes, whatever others' are."""
        held, domain = await self._store.rotation(), self._leaves.trust_domain
        there = published(await self._store.trust(), trust_domain=domain)
        own = self._leaves.trust.own_root
        mine = fingerprint(certificates(own, where="this cell's root")[0])
        root, text = self._target(given, held)
        former = {mine, *(() if held is None else {held.root, *held.former})} - {root}
        wanted = Rotation(root, frozenset(former))
        if text is None and root not in there:
            if root != mine:
                raise Conflict(f"the root {root[:16]} that was to come is no longer published", hint=GIVE)
            text = own
        if wanted != held or root not in there:
            trust = added(
                checked((text or b"") + own, trust_domain=domain, now=self._now()),
                to=await self._store.trust(),
                trust_domain=domain,
            )
            await self._store.set_rotation(wanted, trust=trust, writer=writer)
        return wanted

    def _target(self, given: str | None, held: Rotation | None) -> tuple[str, bytes | None]:
        """The fingerprint of the root that comes, and its PEM where it is known."""
        if given is None:
            if held is None:
                raise InvalidInput("no rotation of the root is under way", hint=GIVE)
            return held.root, None
        text = checked(given.encode(), trust_domain=self._leaves.trust_domain, now=self._now())
        roots = certificates(text, where="it")
        if len(roots) != 1:
            raise InvalidInput(f"these are {len(roots)} roots, and one can come", hint=GIVE)
        return fingerprint(roots[0]), text

    async def _trust_without(self, former: Collection[str]) -> bytes:
        return remaining(await self._store.trust(), former, trust_domain=self._leaves.trust_domain)

    async def _view(self, rotation: Rotation | None, *, without: Collection[str] = ()) -> RotationView:
        cells = await self._all_cells()
        there = frozenset(published(await self._store.trust(), trust_domain=self._leaves.trust_domain))
        found = Standing(Step.DONE) if rotation is None else standing(rotation, published=there, words=cells.counted(without))
        listed = tuple(_roots_of(name, word, alive=name not in cells.silent) for name, word in cells.words.items())
        if rotation is None:
            return RotationView(None, None, (), (), (), tuple(sorted(there)), listed)
        awaited = tuple(_silent(each) if each.cell in cells.silent else each for each in found.awaited)
        passed = _passed_over(rotation, cells, without)
        former = tuple(sorted(rotation.former))
        return RotationView(found.step, rotation.root, former, awaited, passed, tuple(sorted(there)), listed)

    async def _all_cells(self) -> _Cells:
        """Those that give a sign of life, whatever their records say, and those that are known from before.

        This cell is one of them, though a store of its own may not know it.
        """
        living, now = await self._cells.living(), self._elapsed()
        known = {each.record.name: each.record for each in await self._cells.cells()}
        words = {name: None if record is None else record.roots for name, record in {**known, **living}.items()}
        words[self._name] = self._own()
        silent = known.keys() - living.keys() - {self._name}
        self._silent_since = {name: self._silent_since.get(name, now) for name in silent}
        ordered = {name: words[name] for name in sorted(words, key=natural)}
        return _Cells(ordered, {name: now - at for name, at in self._silent_since.items()})


def _roots_of(name: str, word: RootsInUse | None, *, alive: bool) -> CellRoots:
    return CellRoots(name, alive, *(((), ()) if word is None else (word.trusts, word.signs_with)))


def _silent(each: Awaited) -> Awaited:
    hint = f"after {GRACE:.0f} s of that it is passed over; 'cellnet cell remove {each.cell}' if it is gone for good"
    return replace(each, why=f"{each.why}, and gives no sign of life", hint=hint)


def _passed_over(rotation: Rotation, cells: _Cells, without: Collection[str]) -> tuple[Awaited, ...]:
    """What becomes of those that are not ready and not waited for."""
    counted = cells.counted(without)
    lagging = {name: word for name, word in cells.words.items() if name not in counted and not is_ready(rotation, word)}
    hint = "what runs there is not trusted after the last step, until it has a certificate of the root that comes"
    return tuple(
        Awaited(name, "it gives no sign of life" if name in cells.silent else "it is left out, as asked", hint)
        for name in lagging
    )
