"""How a store reports that it has changed: a number that grows, and callbacks that wake the reconcile loop."""

from collections.abc import Callable


class Changes:
    """`revision` counts the changes that this process has seen: read it before the records to know what they include."""

    def __init__(self) -> None:
        self.revision = 0
        self._listeners: list[Callable[[], None]] = []

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` (which must only wake a task) after each change, until the returned function is called."""
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
