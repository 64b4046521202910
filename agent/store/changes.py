"""Telling the reconcile loop that the store has changed: a number that grows, and callbacks that wake it."""

from collections.abc import Callable

from agent.store.protocols import Listener


class Changes:
    """Counts changes and calls the listeners after each one."""

    def __init__(self) -> None:
        self.revision = 0
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each change until the returned function is called (twice is fine)."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def announce(self) -> None:
        """Something has changed, and is committed."""
        self.revision += 1
        for listener in tuple(self._listeners):
            listener()
