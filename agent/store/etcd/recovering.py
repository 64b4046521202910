"""Gives etcd's data a generation, and after a loss writes back what this cell knows: recovery.py says what that is."""

import secrets
from collections.abc import Callable

from agent import log
from agent.errors import Unavailable
from agent.store.etcd import data_loss
from agent.store.etcd.client import EtcdClient, Found, put, unchanged
from agent.store.etcd.copied import Copy, Held, InForce
from agent.store.etcd.data_loss import generation, generation_data
from agent.store.etcd.keys import Keys
from agent.store.tags import LAST_TAG

TRIES = 10


class Recovering:
    """One per store. `now`: seconds since 1970; `fresh` makes what no two cells make alike."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        *,
        cell: str,
        now: Callable[[], float],
        last_tag: int = LAST_TAG,
        fresh: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._client = client
        self._keys = keys
        self._cell = cell
        self._now = now
        self._last_tag = last_tag
        self._fresh = fresh
        self.clashes: tuple[str, ...] = ()

    async def read(self) -> Found:
        """All records. Where they have no generation, nobody has written here yet, or all was lost: one is made."""
        for _ in range(TRIES):
            found = await self._client.read(self._keys.root)
            if generation(found.values, self._keys) is not None:
                return found
            await self._make_generation(found, before="")
        raise Unavailable("etcd's data is deleted again and again", hint="see who writes below the prefix")

    async def write_back(self, in_force: InForce, copy: Copy, found: Found) -> bool:
        """Write what is missing; whether there was anything, so that all is to be read again. Raises Conflict."""
        old, new = generation(copy.values, self._keys), generation(found.values, self._keys)
        if old is not None and new is not None and old.id == new.id:  # older data: whoever comes later must see that, too
            await self._make_generation(found, before=old.id)
            return True
        plans = data_loss.write_back(
            in_force, found, keys=self._keys, cell=self._cell, now=self._now(), last_tag=self._last_tag
        )
        for when, do in plans:
            if await self._client.commit(when=when, do=do) is None:
                break  # another cell was quicker
        return bool(plans)

    def held(self, in_force: InForce, copy: Copy, found: Found) -> Held:
        """What is held from now on, when everything that can be is written back."""
        after = data_loss.since(copy, found, self._keys)
        held = data_loss.held_after(in_force, found, after=after, keys=self._keys, cell=self._cell)
        self.clashes = tuple(data_loss.clashes(in_force, found.values, keys=self._keys))
        log.get("store").warning("etcd_data_written_back", held=len(held), clashes=len(self.clashes))
        return Held(held, after)

    async def _make_generation(self, found: Found, *, before: str) -> None:
        """One of the cells that try it succeeds."""
        key = self._keys.generation
        data = generation_data(self._fresh(), before=before)
        await self._client.commit(when=[unchanged(key, found.values.get(key))], do=[put(key, data)])
