"""Containers that an engine's plugin puts on the overlay and takes off by the engine's own id, one after the other for one id.

An engine does not always say that a container has ended (podman after a power loss), and may begin one anew under the id that
it had: then what is there goes first. One that it has forgotten is swept like all whose namespaces have gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from agent.attach.owners import identity_at
from agent.errors import Conflict, InvalidInput, NotFound
from agent.model.attachment import Attachment, AttachRequest, check_name
from agent.model.engine_container import EngineContainer
from agent.model.owner import NamespaceOwner
from agent.model.peer import Peer

Answer = TypeVar("Answer")
SHORT = 12
"""Characters of an id: what engines show of it."""
REMEMBERED = 1024
"""Containers that were taken off, with the addresses that they had."""
LONGEST = 56  # of a name that gets a number behind it


class EngineContainers:
    """`attach` and `detach` are those of the API; `held` are the attachments that are not on their way out."""

    def __init__(
        self,
        held: Callable[[], Collection[Attachment]],
        *,
        attach: Callable[[AttachRequest, Peer], Awaitable[Answer]],
        detach: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._held = held
        self._attach = attach
        self._detach = detach
        self._had: dict[tuple[str, str], IPv4Address] = {}
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def find(self, identity: str, interface: str) -> Attachment | None:
        """What is attached for a container of an engine."""
        key = (identity, interface)
        return next((each for each, container in self._of_engines() if (container.id, container.interface) == key), None)

    def last_address(self, identity: str, interface: str) -> IPv4Address | None:
        """What a container has, or had before it was taken off.

        podman takes a container off and asks for its address again where it makes the networks of what runs anew.
        """
        found = self.find(identity, interface)
        return self._had.get((identity, interface)) if found is None else found.address

    def _of_engines(self) -> Iterator[tuple[Attachment, EngineContainer]]:
        for each in self._held():
            if isinstance(each.owner, NamespaceOwner) and each.owner.container is not None:
                yield each, each.owner.container

    def named(self, identity: str, interface: str) -> Attachment:
        """As `find`. Raises NotFound."""
        found = self.find(identity, interface)
        if found is None:
            raise NotFound(f"container {identity[:SHORT]} has no {interface} of cellnet's", hint="see 'cellnet ps'")
        return found

    async def add(self, request: AttachRequest, *, peer: Peer, exactly: bool) -> str:
        """Attach; the name that it has. Where `request.name` is another's it gets a number, unless it is to be `exactly` that.

        What has the same namespace and app already stays as it is; what had another goes.
        """
        container = request.container
        assert container is not None
        async with self._lock(container):
            before = self.find(container.id, container.interface)
            if before is not None and self._is_there(before, request, peer=peer):
                return before.name
            if before is not None:
                await self._detach(before.name)
            if exactly:
                await self._attach(request, peer)
                return request.name
            return await self._add_under_a_free_name(request, peer=peer)

    async def _add_under_a_free_name(self, request: AttachRequest, *, peer: Peer) -> str:
        number, name = 0, request.name
        while True:
            try:
                await self._attach(replace(request, name=name), peer)
            except Conflict as error:
                if error.taken != name:
                    raise
                number, name = number + 1, f"{request.name[:LONGEST]}-{number + 1}"
            else:
                return name

    def _is_there(self, before: Attachment, request: AttachRequest, *, peer: Peer) -> bool:
        owner, seen = before.owner, identity_at(Path(f"/proc/{peer.pid}/root/{request.netns}"))
        if not isinstance(owner, NamespaceOwner) or seen != (owner.device, owner.inode):
            return False
        return (before.app, before.interface) == (request.app, request.interface)

    async def remove(self, identity: str, interface: str) -> bool:
        """Detach; False if there is none, which is fine."""
        async with self._lock(EngineContainer(identity, interface, "any")):
            found = self.find(identity, interface)
            if found is None:
                return False
            self._had[identity, interface] = found.address
            if len(self._had) > REMEMBERED:
                del self._had[next(iter(self._had))]
            return await self._detach(found.name)

    async def keep(self, network: str, wanted: Collection[tuple[str, str]]) -> tuple[str, ...]:
        """Detach those of a network that are none of `wanted` (id and interface); their names."""
        own = [(each.name, container) for each, container in self._of_engines() if container.network == network]
        over = [(name, each) for name, each in own if (each.id, each.interface) not in wanted]
        return tuple([name for name, each in over if await self.remove(each.id, each.interface)])

    def _lock(self, container: EngineContainer) -> asyncio.Lock:
        key = (container.id, container.interface)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


def name_of(container: EngineContainer, given: str | None) -> str:
    """What its attachment is called: as the engine calls the container, else as engines show its id."""
    for name in (given, container.id[:SHORT] if len(container.id) > LONGEST else container.id):
        with suppress(InvalidInput):
            return check_name(name or "")
    raise InvalidInput(f"container '{container.id}' has no name that an attachment can have", hint="name it with --name")
