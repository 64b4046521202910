"""The cell's copy of etcd, and what is in force of it: the same, but for what is held since data was lost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agent.store.etcd.client import Value


@dataclass(frozen=True, slots=True)
class Copy:
    """The records at one revision of one cluster."""

    values: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    revision: int = 0
    cluster: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """Records that are in force otherwise than etcd has them, until they are written after `after`. None: one that is not."""

    values: dict[str, Value | None] = field(default_factory=dict)
    after: int = 0


class InForce(Mapping[str, Value]):
    """What the cell goes by. A live view."""

    def __init__(self, values: Mapping[str, Value], held: Mapping[str, Value | None]) -> None:
        self._values = values
        self._held = held

    def __getitem__(self, key: str) -> Value:
        found = self._held[key] if key in self._held else self._values[key]
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._values if key not in self._held)
        yield from (key for key, value in self._held.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
