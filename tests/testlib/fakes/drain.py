"""What drains a FakeCell, without waiting for anything."""

from collections.abc import Collection, MutableMapping
from datetime import UTC, datetime

from agent.attach.drain import Drain, DrainingInstance, DrainRow
from agent.control.api.containers.views import AttachmentInFull
from agent.errors import NotFound

MOMENT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeDrain(Drain):
    """Each look finds one open connection less; one that has none is gone at the next."""

    def __init__(self, views: MutableMapping[str, AttachmentInFull]) -> None:
        self.views = views
        self.open: dict[str, int] = {}
        self.is_whole = False

    def begin(self, names: Collection[str], *, seconds: float) -> None:
        for name in names:
            if name not in self.views:
                raise NotFound(f"there is no attachment '{name}'", hint="see 'cellnet ps'")
        self.is_whole = self.is_whole or not names
        self.open |= dict.fromkeys(names or self.views, 1)

    def undo(self) -> bool:
        was, self.is_whole = self.is_whole or bool(self.open), False
        self.open.clear()
        return was

    def row(self) -> DrainRow:
        shown = dict(self.open)
        self.open = {name: count - 1 for name, count in shown.items() if count}
        for name in shown.keys() - self.open.keys():
            self.views.pop(name, None)
        waiting = [DrainingInstance(name, self.views[name].app, count, MOMENT) for name, count in shown.items() if count]
        return DrainRow(self.is_whole, MOMENT if self.is_whole else None, tuple(waiting))
