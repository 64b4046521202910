"""A port that an app serves, by its number and protocol: `8080`, `53/udp`."""

import re
from dataclasses import dataclass
from typing import Self

from agent.errors import InvalidInput

TCP, UDP = PROTOCOLS = ("tcp", "udp")
WRITTEN = re.compile(r"([0-9]{1,9})(?:/(tcp|udp))?")


@dataclass(frozen=True, slots=True, order=True)
class AppPort:
    """Raises InvalidInput for a number outside of 1 to 65535."""

    number: int
    protocol: str = TCP

    def __post_init__(self) -> None:
        check_port(self.number)

    @classmethod
    def parse(cls, text: str) -> Self:
        """`8080` (TCP), `8080/tcp` or `53/udp`."""
        found = WRITTEN.fullmatch(text)
        if found is None:
            raise InvalidInput(f"'{text}' is not a port", hint="write 8080, or 53/udp")
        return cls(int(found[1]), found[2] or TCP)

    @classmethod
    def of(cls, written: int | str) -> Self:
        """As JSON has it: a number for TCP, or text."""
        return cls(written) if isinstance(written, int) else cls.parse(written)

    @property
    def json(self) -> int | str:
        """The shortest of what `of` takes."""
        return self.number if self.protocol == TCP else str(self)

    def __str__(self) -> str:
        return str(self.number) if self.protocol == TCP else f"{self.number}/{self.protocol}"


def check_port(number: int) -> None:
    """InvalidInput outside 1-65535."""
    if not 1 <= number <= 65535:
        raise InvalidInput(f"port {number} is out of range", hint="use 1 to 65535")
