"""What one attachment may take at most, as callers write it: `100mbit`, `200`, `50/s`."""

import re
from typing import Final

from agent.errors import InvalidInput
from dataplane.state import Limits

UNITS: Final = {"kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}  # bits a second
RATE: Final = re.compile(r"([1-9][0-9]{0,8})(kbit|mbit|gbit)")
A_SECOND: Final = re.compile(r"([1-9][0-9]{0,8})/s")
SLOWEST, FASTEST = 100_000, 30_000_000_000
MOST_CONNECTIONS: Final = 2_000  # the kernel looks all of them up again for a new one
MOST_NEW: Final = 10_000  # no container may open more, whatever its limit


def parse_rate(text: str) -> int:
    """Bits a second of `100mbit`. Raises InvalidInput."""
    found = RATE.fullmatch(text)
    if found is None:
        raise InvalidInput(f"'{text}' is not a rate", hint="write a whole number and kbit, mbit or gbit, e.g. 100mbit")
    bits = int(found[1]) * UNITS[found[2]]
    if not SLOWEST <= bits <= FASTEST:
        hint = f"use {rate_text(SLOWEST)} to {rate_text(FASTEST)}, or leave it out for no limit"
        raise InvalidInput(f"a rate of {text} is out of range", hint=hint)
    return bits


def rate_text(bits: int) -> str:
    """The shortest that `parse_rate` takes."""
    unit = next(name for name, size in reversed(UNITS.items()) if bits % size == 0)
    return f"{bits // UNITS[unit]}{unit}"


def parse_new(text: str) -> int:
    """How many of `50/s`. Raises InvalidInput."""
    found = A_SECOND.fullmatch(text)
    if found is None:
        raise InvalidInput(f"'{text}' is not so many a second", hint="write a whole number and /s, e.g. 50/s")
    return check_new(int(found[1]))


def check_connections(number: int) -> int:
    """`number` itself, or InvalidInput."""
    if not 1 <= number <= MOST_CONNECTIONS:
        hint = f"use 1 to {MOST_CONNECTIONS}, or leave it out for no limit"
        raise InvalidInput(f"a limit of {number} open connections is out of range", hint=hint)
    return number


def check_new(number: int) -> int:
    """`number` itself, or InvalidInput."""
    if not 1 <= number <= MOST_NEW:
        hint = f"use 1/s to {MOST_NEW}/s, or leave it out for no limit"
        raise InvalidInput(f"a limit of {number} new connections a second is out of range", hint=hint)
    return number


def as_written(limits: Limits) -> dict[str, str | int | None]:
    """As JSON has them: what `limits_of` takes."""
    rate = rate_text(limits.rate) if limits.rate else None
    return {"rate": rate, "connections": limits.connections or None, "new": limits.new or None}


def limits_of(*, rate: str | None, connections: int | None, new: int | None) -> Limits:
    """As JSON has them; None is without. Raises InvalidInput."""
    return Limits(
        rate=0 if rate is None else parse_rate(rate),
        connections=0 if connections is None else check_connections(connections),
        new=0 if new is None else check_new(new),
    )
