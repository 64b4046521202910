"""The ports that Envoy needs in each container, held as long as it is attached: see dataplane/envoy/sockets/container_ports.py.

Which they are depends on the mode of mutual TLS, which may change while containers run. A program that has one by then is a
problem in `status`; its container has no listener there until it lets go, and no other container is concerned.
"""

import contextlib
import socket
from collections.abc import Callable, Collection, Iterable, Iterator

from agent import log
from agent.errors import HostRefused
from agent.model.attachment import Attachment
from agent.model.status import Part, Problem
from dataplane.envoy.sockets.container_ports import ContainerPort, PortTaken, reserve


class ReservedPorts(Part):
    """`needed` are those of one attachment, as of now; `uid` is that of Envoy's user."""

    def __init__(self, needed: Callable[[Attachment], Collection[ContainerPort]], *, uid: int) -> None:
        self.needed = needed
        self.uid = uid
        self._held: dict[str, dict[ContainerPort, socket.socket]] = {}
        self._taken: dict[str, dict[ContainerPort, HostRefused]] = {}
        self._log = log.get("reserved_ports")

    def problems(self) -> Iterator[Problem]:
        """What programs have, each by its container."""
        for name in sorted(self._taken):
            yield from (Problem("envoy", f"{name}: {error.what}", error.hint) for error in self._taken[name].values())

    def taken(self) -> frozenset[ContainerPort]:
        """What programs have."""
        return frozenset(port for ports in self._taken.values() for port in ports)

    def reserve(self, attachment: Attachment) -> None:
        """All that a new one needs, or none. Raises HostRefused."""
        with contextlib.ExitStack() as undo:
            made = {port: undo.enter_context(reserve(port, uid=self.uid)) for port in self.needed(attachment)}
            undo.pop_all()
        self._held[attachment.name] = made

    def follow(self, attachments: Iterable[Attachment]) -> bool:
        """Of those that run: hold what is needed by now, as far as it can be, and no more. Whether others are taken now."""
        before = self.taken()
        for each in attachments:
            self._follow(each)
        return before != self.taken()

    def _follow(self, attachment: Attachment) -> None:
        needed, held = self.needed(attachment), self._held.setdefault(attachment.name, {})
        for port in held.keys() - set(needed):
            held.pop(port).close()
        taken = self._taken.pop(attachment.name, {})
        for port in needed:
            if port in held:
                continue
            try:
                held[port] = reserve(port, uid=self.uid)
            except PortTaken as error:
                if port not in taken:
                    self._log.warning("port_taken", name=attachment.name, port=port.number)
                self._taken.setdefault(attachment.name, {})[port] = error
            except HostRefused as error:  # on its way out
                self._log.warning("port_not_held", name=attachment.name, port=port.number, what=error.what)

    def release(self, name: str) -> None:
        """Hold nothing of this one any more."""
        self._taken.pop(name, None)
        for each in self._held.pop(name, {}).values():
            each.close()
