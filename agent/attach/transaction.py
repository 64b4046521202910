"""Attach and detach as transactions: all of it is in place and listening, or nothing of it is left.

The ledger is written first and struck out last, so whatever a crash leaves is found there and undone at the next start.
A name follows readiness: of an attachment that is ATTACHED everything works.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from agent import log
from agent.attach.address_holders import AddressHolders
from agent.attach.asked_routes import AskedRoutes
from agent.attach.container_files import ContainerFiles
from agent.attach.lasting_pins import LastingPins
from agent.attach.owners import Owners
from agent.attach.published_ports import PublishedPorts
from agent.attach.reserved_ports import ReservedPorts
from agent.complaint import Complaints
from agent.errors import RAISED, Conflict, HostRefused, InvalidInput, Unavailable
from agent.identity.leaves import Leaves
from agent.loop.desired import CellFacts, pin_of
from agent.loop.loop import Reconciler
from agent.model.attachment import Attachment, AttachRequest, Phase
from agent.model.names import AppName
from agent.model.owner import NamespaceOwner, Owner
from agent.model.peer import Peer
from agent.model.status import Part, Problem
from agent.store.ledger import Ledger
from agent.store.protocols import IndexStore
from dataplane.detachment import clear_namespace
from dataplane.envoy.sockets.container_ports import await_listening
from dataplane.netlink.links import far_ends
from dataplane.tables import host_interface
from host import namespace
from host.durable import make_folder
from host.errors import refused_as
from host.namespace import NamespaceId

CONNECT_SECONDS = 3.0  # for an Envoy that is just starting
ENVOY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class AttachParts:
    """What an attach touches. `claim` gives an app its tag; `routes` are those that it asks for, `indexes` numbers instances;
    `ports` are those of Envoy, `published` those of the host, `holders` have the addresses, `files` are the containers' own;
    `now` is seconds since 1970; `hung` is why Envoy cannot serve though it is connected; `closed`: why
    nothing is attached here at present.

    `leaving` are names that the loop must leave out though the ledger could not be written (a full disk): making a
    container unreachable must never wait for a disk.
    """

    ledger: Ledger
    leaves: Leaves
    owners: Owners
    reconciler: Reconciler
    claim: Callable[[AppName], Awaitable[None]]
    facts: CellFacts
    routes: AskedRoutes
    indexes: IndexStore
    ports: ReservedPorts
    published: PublishedPorts
    holders: AddressHolders
    files: ContainerFiles
    leaving: set[str]
    now: Callable[[], float] = time.time
    hung: Callable[[], Unavailable | None] = lambda: None
    closed: Callable[[], Unavailable | None] = lambda: None


class AttachTransactions(Part):
    """One per agent. Calls for different names run at once, those for one name in turn."""

    def __init__(self, parts: AttachParts) -> None:
        self._parts = parts
        self._lasting = LastingPins(parts.facts.pins)
        # weak: a name's lock lives as long as a task holds it or waits for it
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pinned: dict[NamespaceId, str] = {}
        self._swept: dict[NamespaceId, str] = {}  # by name, for as long as processes are left in them
        self._log = log.get("attach")
        self._not_undone = Complaints(self._log, failed="not_undone")  # by name; the sweep tries again every second

    def problems(self) -> Iterator[Problem]:
        """Containers that are not in place, and those that are not gone."""
        held, failures = self._parts.ledger.all(), self._parts.reconciler.reports.last.failures
        for each in held:
            if each.address in failures:
                yield Problem("kernel", f"{each.name}: {failures[each.address].what}", failures[each.address].hint)
        for name in sorted({each.name for each in held} - {each.name for each in self.present()}):
            yield Problem("kernel", f"'{name}' is not wholly detached yet", "see the agent's log; it goes on trying")
        inhabited = namespace.inhabited_namespaces() if self._swept else {}
        self._swept = {each: name for each, name in self._swept.items() if each in inhabited}
        for identity, name in self._swept.items():
            what = f"'{name}' was detached when its owner ended, but processes live on in its namespace without a network"
            yield Problem("kernel", what, f"end them, or attach it again: nsenter --net={inhabited[identity]} shows them")
        yield from self._lasting.problems()
        yield from self._ports_of_ours()

    def _ports_of_ours(self) -> Iterator[Problem]:
        """An earlier version took them, or `tls.port` was another."""
        for each in self.present():
            for port in sorted(self._parts.facts.own_ports.intersection(each.tcp_ports())):
                what = f"{each.name}: port {port} is cellnet's own in every container, so calls to it do not reach the app"
                yield Problem("envoy", what, "have the app listen on another port, and attach it again with that")

    async def attach(self, request: AttachRequest, *, peer: Peer) -> Attachment:
        """Attach what `request` names, as `peer` sees it. Undoes everything and raises where anything fails."""
        self._parts.routes.require(request.routes)
        with contextlib.ExitStack() as undo:
            with refused_as(f"cannot open {request.netns} as process {peer.pid} sees it"):
                root = os.open(f"/proc/{peer.pid}/root", os.O_PATH | os.O_CLOEXEC)
            undo.callback(os.close, root)
            descriptor = namespace.open_namespace(request.netns, root=Path(f"/proc/self/fd/{root}"))
            undo.callback(os.close, descriptor)
            engines = None if request.container is None else NamespaceId.of(descriptor)
            await self._parts.published.require_free(request.publish, engines=engines)
            owner = self._parts.owners.of(descriptor, path=request.netns, pid=request.owner_pid, container=request.container)
            peer.refuse_ended()  # its pid has been used for the last time
            if owner is None:
                raise InvalidInput(f"there is no process {request.owner_pid}", hint="name the one that the attachment is for")
            async with self.turn_of(request.name):
                await self._detach_if_over(request.name)
                return await self._attach(request, descriptor, owner=owner, root=root)

    async def await_readiness(self) -> None:
        """Raise where every attach would fail: this cell is drained, pins would not last, Envoy is not there or hangs."""
        closed = self._parts.closed() or self._lasting.refusal()
        if closed is not None:
            raise closed
        await self._parts.reconciler.envoy.connected(timeout=CONNECT_SECONDS)
        hung = self._parts.hung()
        if hung is not None:
            raise hung

    async def detach(self, name: str) -> bool:
        """Undo an attachment; False if there is none. Raises where something could not be undone: the sweep goes on."""
        async with self.turn_of(name):
            return await self._detach(name)

    def recover(self) -> None:
        """At the start, before the first turn: mark what a crash cut short and what lost its owner as on its way out."""
        make_folder(self._parts.facts.pins, mode=0o755)
        owned = [each for each in self._parts.ledger.all() if each.phase is Phase.ATTACHED and self._parts.owners.live(each)]
        alive = {each.name for each in owned if namespace.is_pin(self._pin_of(each))}
        alive |= self._pin_again([each for each in owned if each.name not in alive])
        for held in self._parts.ledger.all():
            if held.name in alive:
                self._take_up(held)
            else:
                self._mark_leaving(held.name)
        known = {held.name for held in self._parts.ledger.all()}
        for stranger in set(os.listdir(self._parts.facts.pins)) - known:
            namespace.unpin(self._parts.facts.pins / stranger)

    def _pin_again(self, unpinned: Sequence[Attachment]) -> set[str]:
        """The names of those that are on the network still: their pins have gone with the mount namespace of an earlier agent.

        The link leads to the namespace, whatever its owner is. One that cannot be found has its pin missing, and is a problem.
        """
        if not unpinned:
            return set()
        links = {host_interface(each.address): each for each in unpinned}
        paths = [each.owner.path for each in unpinned if isinstance(each.owner, NamespaceOwner)]
        found = far_ends(links, [*paths, *namespace.inhabited_namespaces().values()])
        for link, path in found.items():
            held = links[link]
            self._log.warning("pinned_again" if path else "namespace_not_found", name=held.name)
            if path is not None:
                descriptor = namespace.open_namespace(path)
                try:
                    namespace.pin(descriptor, self._pin_of(held))
                finally:
                    os.close(descriptor)
        return {links[link].name for link in found}

    def _take_up(self, held: Attachment) -> None:
        """Go on with what an earlier agent has attached."""
        try:
            self._pinned[NamespaceId.of(self._pin_of(held))] = held.name
        except FileNotFoundError:
            return  # its namespace was not found
        self._parts.ports.follow([held])

    def _pin_of(self, held: Attachment) -> Path:
        return pin_of(held.name, pins=self._parts.facts.pins)

    def present(self) -> tuple[Attachment, ...]:
        """Those that are not on their way out."""
        return tuple(
            held
            for held in self._parts.ledger.all()
            if held.phase is not Phase.DETACHING and held.name not in self._parts.leaving
        )

    def attached(self) -> tuple[Attachment, ...]:
        """Those that are in place and not on their way out."""
        return tuple(held for held in self.present() if held.phase is Phase.ATTACHED)

    async def sweep(self) -> None:
        """Detach what has lost its owner, and go on with what could not be undone before: all at once, in one turn."""
        self._follow_ports()
        over = [held.name for held in self._parts.ledger.all() if self._is_over(held)]
        await asyncio.gather(*(self._sweep_one(name) for name in over if not self.turn_of(name).locked()))

    async def _sweep_one(self, name: str) -> None:
        async with self.turn_of(name):
            held = self._parts.ledger.get(name)  # again: the name may belong to another container by now
            if held is None or not self._is_over(held):
                return
            if name not in self._not_undone.standing:
                self._log.info("swept", name=name, app=str(held.app))
            identities = [identity for identity, each in self._pinned.items() if each == name]
            await self._detach_quietly(name)
            self._swept |= dict.fromkeys(identities, name)

    def _is_over(self, held: Attachment) -> bool:
        """Whether it is to go. To be asked with its lock held: then an ATTACHING one is what an undo has left."""
        return held.phase is not Phase.ATTACHED or held.name in self._parts.leaving or not self._parts.owners.live(held)

    async def _attach(self, request: AttachRequest, descriptor: int, *, owner: Owner, root: int) -> Attachment:
        identity = NamespaceId.of(descriptor)
        await self.await_readiness()
        asked = await self._claimed(request)
        try:
            self._refuse_attached(identity, asked)  # from here to `_pinned` no other task gets a turn
            held = self._parts.holders.begin(asked, owner=owner)
        except BaseException:
            await asyncio.shield(self._give_back(asked))
            raise
        self._pinned[identity] = held.name
        self._swept.pop(identity, None)
        try:
            if request.owner_pid is None:
                self._parts.owners.keep_root(held.name, root)
            return await self._put_in_place(held, descriptor)
        except BaseException:
            # shielded: a client that has gone, or the agent's own end, must not leave half of it
            await asyncio.shield(self._detach_quietly(held.name))
            raise

    async def _put_in_place(self, held: Attachment, descriptor: int) -> Attachment:
        parts = self._parts
        pin = pin_of(held.name, pins=parts.facts.pins)
        namespace.pin(descriptor, pin)
        parts.ports.reserve(held)
        await parts.claim(held.app)
        parts.leaves.ensure(held)
        await parts.files.write(held)
        failure = (await parts.reconciler.settle()).of(held.address)
        if failure is not None:
            raise failure
        await parts.reconciler.envoy.acknowledged(held.address, timeout=ENVOY_SECONDS)
        for port in parts.ports.needed(held):
            await asyncio.to_thread(await_listening, port, timeout=ENVOY_SECONDS)
        if not parts.owners.live(held):
            raise Conflict(f"the owner of '{held.name}' ended while it was being attached", hint="start it again")
        attached = parts.ledger.complete(held.name)
        parts.reconciler.kick()  # the next turn announces it to the other cells
        return attached

    def _refuse_attached(self, identity: NamespaceId, request: AttachRequest) -> None:
        name = self._pinned.get(identity)
        if name is not None and name != request.name:
            raise Conflict(
                f"the namespace {request.netns} is attached as '{name}' already", hint=f"cellnet detach {name}, then attach it"
            )

    async def _claimed(self, request: AttachRequest) -> AttachRequest:
        """The request with its number, which no instance of any cell has, and whose routes are its space's."""
        parts = self._parts
        parts.ledger.refuse_taken(request)  # its words are clearer than the store's
        await parts.routes.take(request.app, request.routes)
        wanted, here = request.instance, parts.ledger.numbers(request.app, but=request.name)
        reserved = parts.ledger.reservations.get(request.name)
        if reserved is not None and reserved.app != request.app:
            raise Conflict(
                f"the name '{request.name}' is reserved for {reserved.app}",
                hint=f"choose another name, or `cellnet release {request.name}` first", taken=request.name,
            )  # fmt: skip
        if reserved is not None and reserved.place is not None and wanted is None:
            wanted = reserved.place.instance
        index = await parts.indexes.claim_index(request.app, name=request.name, wanted=wanted, avoid=here)
        return replace(request, instance=index)

    async def _give_back(self, asked: AttachRequest | Attachment) -> None:
        """The number, once nothing has it any more."""
        assert asked.instance is not None
        await self._parts.indexes.release_index(asked.app, asked.instance, name=asked.name)

    async def _detach_if_over(self, name: str) -> None:
        held = self._parts.ledger.get(name)
        if held is not None and self._is_over(held):
            await self._detach(name)

    async def _detach_quietly(self, name: str) -> None:
        try:
            await self._detach(name)
        except RAISED as error:
            self._not_undone.about(error, key=name, name=name)

    def _mark_leaving(self, name: str) -> HostRefused | None:
        """Write down that it goes; where that cannot be written, the loop leaves it out all the same."""
        try:
            self._parts.ledger.begin_detach(name)
        except HostRefused as error:
            self._parts.leaving.add(name)
            return error
        return None

    async def _detach(self, name: str) -> bool:
        parts = self._parts
        held = parts.ledger.get(name)
        if held is None:
            return False
        unwritten = self._mark_leaving(name)
        report = await parts.reconciler.settle()  # unreachable and cut first, then Envoy leaves the namespace
        failure = report.of(held.address)
        if failure is not None:
            raise failure
        parts.leaves.drop(name)
        parts.files.remove(held)
        # an Envoy that is not there has left; one that hangs is asked again when it is back
        if parts.hung() is None:
            with contextlib.suppress(Unavailable):
                await parts.reconciler.envoy.acknowledged(held.address, timeout=ENVOY_SECONDS)
        pin = pin_of(name, pins=parts.facts.pins)
        parts.ports.release(name)
        await asyncio.to_thread(clear_namespace, pin, address=held.address, envoy=parts.ports.uid)
        parts.owners.forget(name)
        self._pinned = {identity: each for identity, each in self._pinned.items() if each != name}
        namespace.unpin(pin)
        if unwritten is not None:  # it is off all the same, and without its pin it stays off after a restart
            raise unwritten
        parts.ledger.finish_detach(name, now=parts.now())
        parts.leaving.discard(name)
        self._not_undone.over(key=name)
        await self._give_back(held)
        return True

    def _follow_ports(self) -> None:
        """The mode of mutual TLS may be another, and a program may have let go of a port."""
        steady = (held for held in self.attached() if not self.turn_of(held.name).locked())
        if self._parts.ports.follow(steady):
            self._parts.reconciler.kick()

    def turn_of(self, name: str) -> asyncio.Lock:
        """To be held by what changes what a name stands for."""
        """See `turn_of`."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock
