"""Tags follow use: an app has one from the moment that a policy names it, an instance is attached, or it is declared."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.errors import Conflict, HostRefused, Unavailable
from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.model.policy import Policy, spelled_out
from agent.model.status import Part, Problem, as_problems
from agent.pacing import Backoff
from agent.policy.difference import difference
from agent.store.protocols import SharedStore, TagStore

PATIENCE = 0.5  # seconds: a revoke may be waiting
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds until what was refused is tried again though nothing has happened


class NamedApps:
    """The apps that policies spell out, kept as these change."""

    def __init__(self) -> None:
        self._policies: tuple[Policy, ...] = ()
        self._spelled: Counter[tuple[str, str, str]] = Counter()  # how often policies spell an app out
        self.names: frozenset[AppName] = frozenset()

    def follow(self, policies: tuple[Policy, ...]) -> None:
        """Those of `policies` from now on."""
        if policies is self._policies:
            return
        change = difference(self._policies, policies)
        before = {parts: self._spelled[parts] for parts in (*spelled_out(change.added), *spelled_out(change.removed))}
        self._spelled.update(spelled_out(change.added))
        self._spelled.subtract(spelled_out(change.removed))
        come = {AppName(*parts) for parts, count in before.items() if not count and self._spelled[parts]}
        gone = {AppName(*parts) for parts, count in before.items() if count and not self._spelled[parts]}
        for parts in before:
            if not self._spelled[parts]:
                del self._spelled[parts]
        if come or gone:
            self.names = (self.names - gone) | come
        self._policies = policies


@dataclass(frozen=True, slots=True)
class _Need:
    """What a cell needs of the tags there are, worked out from these very objects."""

    names: frozenset[AppName]
    here: frozenset[AppName]
    tags: Mapping[AppName, int]
    missing: frozenset[AppName]
    unused: frozenset[AppName]

    def of(self, names: frozenset[AppName], here: frozenset[AppName], tags: Mapping[AppName, int]) -> bool:
        return self.names is names and self.tags is tags and self.here == here


class TagsInUse(Part):
    """Claims and gives back. `earliest` and `latest` bound the time, in seconds since 1970: a clock may be set meanwhile.

    `declared` are the apps that are to have tags though they are not there yet.
    """

    def __init__(
        self,
        store: TagStore,
        *,
        earliest: Callable[[], float],
        latest: Callable[[], float],
        shared: SharedStore | None = None,
        declared: Callable[[], frozenset[AppName]] = frozenset,
    ) -> None:
        self._store = store
        self._declared = declared
        self._shared = shared
        self._earliest = earliest
        self._latest = latest
        self._all, self._here = NamedApps(), NamedApps()
        self._need = _Need(frozenset(), frozenset(), {}, frozenset(), frozenset())
        self._announced: frozenset[AppName] = frozenset()  # what the other cells know that this one needs
        self._given_back: tuple[frozenset[AppName], int] | None = None  # what was tried at which revision
        self._pauses = Backoff(first=FIRST_PAUSE, longest=LONGEST_PAUSE)
        self._pause: float | None = None
        self.problem: Conflict | HostRefused | Unavailable | None = None

    def wait(self) -> float | None:
        """Seconds until `follow` is to be called again, when the store may take what it refused; None where it took all."""
        return self._pause

    def problems(self) -> tuple[Problem, ...]:
        """Why apps have no tags, or keep them."""
        return as_problems("tags", self.problem)

    async def claim(self, app: AppName) -> None:
        """See that one app has its tag. Raises Conflict when there is none left.

        The need is announced first: a tag that no cell needs is given back by the first other one that learns of it.
        """
        if app not in await self._store.tags():
            self._announced |= {app}
            if self._shared is not None:
                await self._shared.await_return()
            try:
                await self._refer()
                await self._store.claim_tags([app], now=self._earliest())
            except Unavailable as error:
                raise Unavailable(
                    f"app {app} is new and needs a tag from the store: {error.what}",
                    hint="attach it when the store answers; apps that have run already need not wait",
                ) from error

    async def follow(
        self, policies: tuple[Policy, ...], attachments: Iterable[Attachment], *, files: tuple[Policy, ...] = ()
    ) -> Mapping[AppName, int]:
        """Claim what is referred to, give back what no longer is, and return the tags in use.

        `files` are the policies that only this cell knows.

        When there are not enough, or the store cannot be written, those that are there serve on, and that is reported: a
        revoke must never wait for a tag or a disk.
        """
        self._all.follow(policies)
        self._here.follow(files)
        here = self._declared().union(each.app for each in attachments if each.phase is not Phase.DETACHING)
        tags = await self._store.tags()
        need = self._needed(here, tags)
        missing, unused = need.missing, need.unused
        self.problem = None
        try:
            async with asyncio.timeout(PATIENCE):
                self._announced = self._here.names | here
                await self._refer()
                if missing:
                    await self._store.claim_tags(missing, now=self._earliest())
                if unused and self._given_back != (unused, self._store.changes.revision):  # or another cell needs them
                    revision = self._store.changes.revision
                    await self._store.release_tags(unused, now=self._latest())
                    self._given_back = (unused, revision)
        except (Conflict, HostRefused, Unavailable) as error:
            self.problem = error
        except TimeoutError:
            self.problem = Unavailable("the store is slow: tags are neither given nor taken back", hint="it is tried again")
        if self.problem is None:
            self._pauses.reset()
        self._pause = None if self.problem is None else self._pauses.next()
        return await self._store.tags() if missing or unused else tags

    async def _refer(self) -> None:
        if self._shared is not None:
            await self._shared.refer(self._announced)

    def _needed(self, here: frozenset[AppName], tags: Mapping[AppName, int]) -> _Need:
        """Kept from turn to turn: there may be 65,535 tags."""
        names = self._all.names
        if not self._need.of(names, here, tags):
            wanted = names | here
            missing, unused = (app for app in wanted if app not in tags), (app for app in tags if app not in wanted)
            self._need = _Need(names, here, tags, frozenset(missing), frozenset(unused))
        return self._need
