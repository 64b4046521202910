"""How many instances run that have a name by a claim: as long as there is one, no other cell's writing takes the name away."""

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from agent.model.cell import Endpoint
from agent.model.names import AppName, Space

Counted = TypeVar("Counted")


class Holders:
    """Counted as endpoints of all cells come and go."""

    def __init__(self) -> None:
        self._askers: Counter[tuple[str, Space]] = Counter()
        self._instances: Counter[AppName] = Counter()
        self._gone: set[tuple[str, Space]] = set()
        self._gone_apps: set[AppName] = set()

    def have_route(self, host: str, space: Space) -> bool:
        """Whether an instance of the space runs that has asked for the route."""
        return (host, space) in self._askers

    def run(self, app: AppName) -> bool:
        """Whether an instance of it runs."""
        return app in self._instances

    def change(self, gone: Iterable[Endpoint], come: Iterable[Endpoint]) -> None:
        """These no longer run, those do."""
        for each in come:
            self._instances[each.app] += 1
            self._askers.update((host, Space.of(each.app)) for host in each.routes)
        for each in gone:
            self._less(self._instances, each.app, self._gone_apps)
            for host in each.routes:
                self._less(self._askers, (host, Space.of(each.app)), self._gone)

    @staticmethod
    def _less(counts: Counter[Counted], what: Counted, gone: set[Counted]) -> None:
        counts[what] -= 1
        if counts[what] <= 0:
            del counts[what]
            gone.add(what)

    def take_gone(self) -> tuple[frozenset[tuple[str, Space]], frozenset[AppName]]:
        """The routes of spaces, and the apps, of which the last instance went since the last call."""
        found = frozenset(self._gone), frozenset(self._gone_apps)
        self._gone.clear()
        self._gone_apps.clear()
        return found
