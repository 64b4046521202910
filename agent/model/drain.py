"""What is to go before maintenance, and until when its connections may last."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from agent.model.attachment import Attachment


@dataclass(frozen=True, slots=True)
class DrainTime:
    """Seconds since 1970: when it began, and when what is left of connections is cut."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class DrainOrder:
    """`cell`: all attachments are to go, and none is to come. `instances`: these are, by their GUIDs."""

    cell: DrainTime | None = None
    instances: Mapping[str, DrainTime] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.cell is not None or bool(self.instances)

    def time_of(self, held: Attachment) -> DrainTime | None:
        """Its own, or that of the cell, whichever ends first; None where it is to stay."""
        found = [each for each in (self.cell, self.instances.get(held.guid)) if each is not None]
        return min(found, key=lambda each: each.until, default=None)

    def all_of(self, time: DrainTime) -> Self:
        """The whole cell is to be drained, too; once it is, when it began stays."""
        return replace(self, cell=time if self.cell is None else replace(time, since=self.cell.since))

    def some(self, guids: Collection[str], time: DrainTime) -> Self:
        """These are to go, too."""
        return replace(self, instances={**self.instances, **dict.fromkeys(guids, time)})

    def without(self, guids: Collection[str]) -> Self:
        """These stay, or are gone."""
        return replace(self, instances={guid: each for guid, each in self.instances.items() if guid not in guids})

    def text(self) -> str:
        """For the database."""
        instances = {guid: [each.since, each.until] for guid, each in self.instances.items()}
        return json.dumps({"cell": self.cell and [self.cell.since, self.cell.until], "instances": instances})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, TypeError, KeyError for what `text` has not written."""
        found = json.loads(text)
        cell = None if found["cell"] is None else DrainTime(*map(float, found["cell"]))
        return cls(cell, {str(guid): DrainTime(*map(float, each)) for guid, each in found["instances"].items()})
