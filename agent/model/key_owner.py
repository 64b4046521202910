"""Which user of the host an instance's key is for, besides root: the one that its app runs as."""

from dataclasses import dataclass
from typing import Self

from agent.errors import InvalidInput

LAST = 2**32 - 2  # the one above means "as it was" to the kernel


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Ids as the host counts them, also for a container with a user namespace. Without a `gid` no group may read the key.

    Raises InvalidInput for what is no id.
    """

    uid: int = 0
    gid: int | None = None

    def __post_init__(self) -> None:
        for number in (self.uid, self.gid):
            if number is not None and not 0 <= number <= LAST:
                raise InvalidInput(f"{number} is not the id of a user or group", hint=f"0 to {LAST} is possible")

    @classmethod
    def parse(cls, text: str) -> Self:
        """`UID` or `UID:GID`."""
        parts = text.split(":")
        if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
            raise InvalidInput(f"'{text}' is not UID or UID:GID", hint="numbers of this host, e.g. 1000 or 1000:1000")
        uid, gid = int(parts[0]), int(parts[1]) if len(parts) == 2 else None
        return cls(uid, gid)

    @property
    def ids(self) -> tuple[int, int]:
        """Uid and gid of the file."""
        return self.uid, self.gid or 0

    @property
    def mode(self) -> int:
        """Of the file."""
        return 0o600 if self.gid is None else 0o640


ROOT = KeyOwner()
