"""Looks at the ports of many containers, in a thread of their own: a look that does not come back keeps that thread and holds
up no other for longer than once.
"""

from collections.abc import Callable, Collection, Hashable, Mapping
from concurrent.futures import Future, wait
from threading import Lock
from typing import Generic, TypeVar

from dataplane.flows.served import PortLook, ServicePort
from host.errors import HostRefused
from host.namespace import NamespaceThread
from host.visits import HOME

WITHIN = 1.0  # seconds for all looks of one call

Key = TypeVar("Key", bound=Hashable)
Found = dict[Key, bool | HostRefused]


class PortLooks(Generic[Key]):
    """One call at a time. `make` begins the looks at a port; what it makes is used by one thread alone."""

    def __init__(self, *, within: float = WITHIN, make: Callable[[ServicePort], PortLook] = PortLook) -> None:
        self._within = within
        self._make = make
        self._looks: dict[Key, PortLook] = {}
        self._unended: dict[Key, Future[None]] = {}
        self._thread: NamespaceThread | None = None

    @property
    def stuck(self) -> frozenset[Key]:
        """Those whose last look has not come back."""
        return frozenset(key for key, each in self._unended.items() if not each.done())

    def look(self, ports: Mapping[Key, ServicePort], *, keep: Collection[Key]) -> Found[Key]:
        """Whether each is served, or why that cannot be seen. Blocks for a second at most; meant for a worker thread.

        Not in the answer is what is `stuck`, and what was behind it the first time. All but those in `keep` are let go of.
        """
        self._unended = {key: each for key, each in self._unended.items() if not each.done()}
        self._let_go(self._looks.keys() - set(keep))
        looks = {key: self._of(key, port) for key, port in ports.items() if key not in self._unended}
        turn = _Turn(looks)
        future = self._submit(turn.run)
        if not wait((future,), timeout=self._within).done:
            self._leave()
            if (stuck := turn.give_up()) is not None:
                self._unended[stuck] = future
        elif (error := future.exception()) is not None:
            raise error
        return turn.found.copy()

    def close(self) -> None:
        """Let go of all of them."""
        self._let_go(set(self._looks))
        self._leave()

    def _of(self, key: Key, port: ServicePort) -> PortLook:
        known = self._looks.get(key)
        if known is None:
            known = self._looks[key] = self._make(port)
        return known

    def _let_go(self, keys: Collection[Key]) -> None:
        """In the thread that looks, since a number of a socket that is closed is given to the next one at once."""
        for key in keys:
            look, unended = self._looks.pop(key), self._unended.get(key)
            if unended is None:
                self._submit(look.close)
            else:
                unended.add_done_callback(lambda _, look=look: look.close())  # type: ignore[misc]

    def _submit(self, function: Callable[[], None]) -> Future[None]:
        if self._thread is None:
            self._thread = NamespaceThread(HOME, name="ports")
        return self._thread.submit(function)

    def _leave(self) -> None:
        if self._thread is not None:
            self._thread.leave()
            self._thread = None


class _Turn(Generic[Key]):
    """The looks of one call."""

    def __init__(self, looks: Mapping[Key, PortLook]) -> None:
        self._looks = looks
        self.found: Found[Key] = {}
        self._at: Key | None = None
        self._is_given_up = False
        self._lock = Lock()

    def run(self) -> None:
        for key, look in self._looks.items():
            if not self._go_on_to(key):
                return
            try:
                self.found[key] = look.is_served()
            except HostRefused as error:
                self.found[key] = error

    def give_up(self) -> Key | None:
        """From now on no other look is begun. Where it is: that look alone may still be used by its thread."""
        with self._lock:
            self._is_given_up = True
            return self._at

    def _go_on_to(self, key: Key) -> bool:
        with self._lock:
            if not self._is_given_up:
                self._at = key
            return not self._is_given_up
