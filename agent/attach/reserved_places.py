"""Places that are kept for containers to come, from `cellnet reserve` to `release`: address, number, id, files and routes.

An engine reads the environment of a container when that is made, so it must be known before the container is attached, and be
the same after a restart and a boot. The attach of that name takes its place; when it ends, the place stays the name's.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from agent import log
from agent.attach.address_holders import AddressHolders
from agent.attach.asked_routes import AskedRoutes
from agent.attach.container_files import ContainerFiles
from agent.errors import RAISED, Conflict
from agent.model.reservation import Reservation
from agent.store.ledger import Ledger
from agent.store.protocols import IndexStore


@dataclass(frozen=True, slots=True)
class ReservedPlaces:
    """`turn_of` gives the lock of a name, which attaches hold too."""

    ledger: Ledger
    holders: AddressHolders
    indexes: IndexStore
    routes: AskedRoutes
    files: ContainerFiles
    turn_of: Callable[[str], asyncio.Lock]

    def all(self) -> Mapping[str, Reservation]:
        """By name, in order."""
        return self.ledger.reservations.all()

    async def reserve(self, asked: Reservation) -> Reservation:
        """Keep a place, on the disk when it returns: the one that the name has already, if that is of the same app.

        Raises Conflict where a route or the number is another's or no address is left, HostRefused, and what the store raises.
        """
        self.routes.require(asked.routes)
        async with self.turn_of(asked.name):
            await self.routes.take(asked.app, asked.routes)
            before, index = self.all().get(asked.name), await self._index(asked)
            try:
                made = self.holders.reserve(asked, instance=index)
            except BaseException:
                await asyncio.shield(self._give_back(asked, index))
                raise
            self._say()
            if before is not None and before.place != made.place:
                await self._give_back_of(before)
            await self.files.write_reserved(made)
            return made

    async def _index(self, asked: Reservation) -> int:
        wanted, held = asked.instance, self.ledger.get(asked.name)
        if wanted is None and held is not None and held.app == asked.app:
            wanted = held.instance
        before = self.all().get(asked.name)
        if wanted is None and before is not None and before.app == asked.app and before.place is not None:
            with suppress(Conflict):  # another cell has taken it meanwhile
                return await self._claimed(asked, before.place.instance)
        return await self._claimed(asked, wanted)

    async def _claimed(self, asked: Reservation, wanted: int | None) -> int:
        avoid = self.ledger.numbers(asked.app, but=asked.name)
        return await self.indexes.claim_index(asked.app, name=asked.name, wanted=wanted, avoid=avoid)

    async def release(self, name: str) -> bool:
        """What is attached stays as it is; nothing is left of a place that is empty. False if there was none."""
        async with self.turn_of(name):
            found = self.holders.release(name)
            if found is None:
                return False
            self._say()
            await self._give_back_of(found)
            if self.ledger.get(name) is None:
                self.files.remove_reserved(name)
            return True

    def recover(self) -> None:
        """At the start: those without a place in this cell's subnet, as it has another since, get one."""
        subnet = self.ledger.subnet()
        for each in self.all().values():
            if subnet is None or (each.place is not None and each.place.address in subnet):
                continue
            number = each.instance if each.place is None else each.place.instance
            if number is None:
                taken = self.ledger.numbers(each.app, but=each.name)
                number = next(number for number in range(len(taken) + 1) if number not in taken)
            try:
                self.holders.reserve(each, instance=number)
            except RAISED as error:  # it gets one when it is attached, or the attach says why not
                log.get("attach").warning("not_reserved_again", name=each.name, why=error.what)
        self._say()

    def _say(self) -> None:
        places = ((each, each.place) for each in self.all().values())
        self.indexes.set_reserved({(each.app, place.instance): each.name for each, place in places if place is not None})

    async def _give_back_of(self, before: Reservation) -> None:
        if before.place is not None:
            await self._give_back(before, before.place.instance)

    async def _give_back(self, asked: Reservation, number: int) -> None:
        """Unless it is that of what is attached under the name, which gives it back at its end."""
        held = self.ledger.get(asked.name)
        if held is None or (held.app, held.instance) != (asked.app, number):
            await self.indexes.release_index(asked.app, number, name=asked.name)
