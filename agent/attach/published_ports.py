"""The host's side of published ports: whether a port is free to be published, and whether anything serves it inside.

What comes for a published port is led to the container before any program of the host could get it. So a port that a program
has is refused, and where one takes it later, `status` says so. Nothing is dialled: both are looks at tables of sockets.

podman holds the ports of its own containers itself, by sockets that nothing ever comes to, from before it asks for the network.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from agent.errors import Conflict, HostRefused
from agent.loop.desired import CellFacts, pin_of
from agent.model.app_port import TCP, UDP
from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.model.owner import NamespaceOwner
from agent.model.publication import Publication
from agent.model.status import Part, Problem
from dataplane.flows import sockdiag
from dataplane.flows.served import PortLook, ServicePort
from dataplane.flows.sockdiag import Socket
from host.namespace import NamespaceId
from host.port_holders import PortHolder, holders_of, is_parent_within

PAUSE: Final = 2.0  # seconds between looks
MOST_KEPT: Final = 4_096  # sockets
MOST_LOOKS: Final = 64  # ports of one range: of a longer one the rest is not looked at
STARTER, KEEPER = "podman", "conmon"  # what holds a port of a container for it: while it starts, and for as long as it runs
OWN_HINT: Final = "publish another port"
HINT: Final = "publish another port, or name an address of this host on which nothing has it: ADDRESS:PORT:TO"


class HostPort(NamedTuple):
    """One port of the host."""

    protocol: str
    port: int


class PublishedPorts(Part):
    """`reserved` are ports of the host that are not published, with the reason; `held` are the cell's attachments."""

    def __init__(self, held: Callable[[], Iterable[Attachment]], *, facts: CellFacts, reserved: Mapping[HostPort, str]) -> None:
        self._held = held
        self._facts = facts
        self._reserved = reserved
        self._taken: tuple[Problem, ...] = ()
        self._served: Mapping[tuple[str, Publication], bool] = {}
        self._kept: dict[tuple[int, NamespaceId], None] = {}  # inodes of sockets, and for whom: to find that out takes long

    def reserve(self, reserved: Mapping[HostPort, str]) -> None:
        """From now on these are not published. What is published stays."""
        self._reserved = reserved

    def problems(self) -> Iterator[Problem]:
        """Ports that programs of the host have taken since."""
        yield from self._taken

    async def require_free(self, wanted: Sequence[Publication], *, engines: NamespaceId | None) -> None:
        """Raises Conflict where one is reserved, or a program of the host has it; HostRefused. `engines` is the namespace of an
        engine's container, which may hold the port for it.
        """
        for each in wanted:
            for (protocol, port), why in self._reserved.items():
                if protocol == each.protocol and each.first <= port <= each.last:
                    raise Conflict(f"port {port}/{protocol} of this host is not published: {why}", hint=OWN_HINT)
        if wanted:
            found = await asyncio.to_thread(self._first_taken, wanted, engines=engines)
            if found is not None:
                raise found

    def is_served(self, held: Attachment, publication: Publication) -> bool:
        """Whether anything inside served one of its ports at the last look."""
        return self._served.get((held.name, publication), False)

    def leads_to(self, app: AppName, protocol: str, port: int) -> bool:
        """Whether a port of an app is published by any of its instances here."""
        published = (each for held in self._held() if held.app == app for each in held.publish)
        return any(each.protocol == protocol and port in each.inside(tls_port=self._facts.tls_port) for each in published)

    async def look(self) -> None:
        """Look at all that is published. Raises nothing: what cannot be seen is as it was."""
        publishing = [each for each in self._held() if each.publish and each.phase is Phase.ATTACHED]
        if publishing:
            self._taken, self._served = await asyncio.to_thread(self._looked, publishing)
        else:
            self._taken, self._served = (), {}

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            await asyncio.sleep(PAUSE)

    def _looked(self, publishing: Sequence[Attachment]) -> tuple[tuple[Problem, ...], Mapping[tuple[str, Publication], bool]]:
        try:
            taken = [
                Problem("cell", f"{found.what}, though '{each.name}' has it published", "let one of the two have another port")
                for each in publishing
                if (found := self._first_taken(each.publish, engines=_engines(each)))
            ]
        except HostRefused as error:
            taken = [Problem("cell", error.what, error.hint)]
        served = {(held.name, each): self._is_served(held, each) for held in publishing for each in held.publish}
        return tuple(taken), served

    def _first_taken(self, wanted: Collection[Publication], *, engines: NamespaceId | None) -> Conflict | None:
        sockets = {TCP: sockdiag.all_listeners, UDP: sockdiag.all_bound}
        for protocol in sorted({each.protocol for each in wanted}):
            found = sockets[protocol]()
            clashes = [
                other for other in found if any(each.protocol == protocol and self._clash(each, other) for each in wanted)
            ]
            kept = self._kept_of(clashes, engines) if engines and clashes else frozenset()
            taken = next((other for other in clashes if other.inode not in kept), None)
            if taken is not None:
                what = f"port {taken.local_port}/{protocol} of this host is taken: {_holder(taken)} has it"
                return Conflict(what, hint=HINT)
        return None

    def _kept_of(self, sockets: Collection[Socket], engines: NamespaceId) -> frozenset[int]:
        """The inodes of those that podman alone has, for this very container."""
        known = {each.inode for each in sockets if (each.inode, engines) in self._kept}
        unknown = {each.inode for each in sockets} - known - {0}
        keeps = cache(lambda program: program.uid == 0 and _keeps(program, engines))
        for inode, programs in holders_of(unknown).items():
            if programs and all(map(keeps, programs)):
                known.add(inode)
                if all(each.program == KEEPER for each in programs):
                    self._kept[inode, engines] = None
        while len(self._kept) > MOST_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        return frozenset(known)

    def _clash(self, wanted: Publication, found: Socket) -> bool:
        if not wanted.first <= found.local_port <= wanted.last:
            return False
        if found.local.is_unspecified:
            return True
        resolver = self._facts.resolver
        is_apart = found.local.is_loopback or (resolver is not None and found.local == resolver.address)
        if is_apart or not isinstance(found.local, IPv4Address):
            return False  # no call to it is led anywhere else
        return wanted.address in (None, found.local)

    def _is_served(self, held: Attachment, publication: Publication) -> bool:
        pin = pin_of(held.name, pins=self._facts.pins)
        for port in publication.inside(tls_port=self._facts.tls_port)[:MOST_LOOKS]:
            look = PortLook(ServicePort(pin, held.interface, held.address, port, publication.protocol))
            try:
                if look.is_served():
                    return True
            except HostRefused:
                return False  # it is on its way out
            finally:
                look.close()
        return False


def _engines(held: Attachment) -> NamespaceId | None:
    owner = held.owner
    return NamespaceId(owner.device, owner.inode) if isinstance(owner, NamespaceOwner) and owner.container else None


def _keeps(program: PortHolder, engines: NamespaceId) -> bool:
    return program.program == STARTER or (program.program == KEEPER and is_parent_within(program.pid, engines))


def _holder(found: Socket) -> str:
    programs = holders_of((found.inode,))[found.inode]
    return str(programs[0]) if programs else f"a socket on {found.local}"
