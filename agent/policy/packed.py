"""The policies of one cell's files as a record for the other cells: small, and read without trust in who wrote it. Pure.

A record reaches every cell, so it is compressed and bounded: what does not fit is counted in it.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.errors import InvalidInput
from agent.model.outside import Inside
from agent.model.policy import Origin, Policy
from agent.policy.language.documents import document
from agent.policy.language.language import parse_stored
from agent.store.protocols import MOST_PUBLISHED
from agent.wording import printable

MOST_TEXT: Final = 1 << 20  # that it may be when it is unpacked
MOST_NUMBER: Final = 1 << 31  # of a line, a column, or policies
LONGEST: Final = 256  # characters of a name or a place
NAMED: Final = "p"  # in the document: a rule of a file is called after its place, which is no name in the store


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a record holds; `left_out` did not fit into it, or cannot be read here."""

    policies: tuple[Policy, ...] = ()
    left_out: int = 0


def pack(policies: Sequence[Policy]) -> bytes:
    """The same bytes for the same policies; the first of them where all are too many."""
    rows = [_row(each) for each in policies]
    kept = len(rows)
    while True:
        text = json.dumps(rows[:kept], ensure_ascii=False, separators=(",", ":")).encode(errors="surrogateescape")
        packed = base64.b64encode(zlib.compress(text, 9)).decode()
        found = json.dumps({"left_out": len(rows) - kept, "policies": packed}).encode()
        excess = max(len(text) / MOST_TEXT, len(found) / MOST_PUBLISHED)
        if excess <= 1:
            return found
        kept = min(kept - 1, int(kept / excess))


def _row(policy: Policy) -> list[object]:
    origin = policy.origin
    return [policy.name, origin.source, origin.line, origin.column, document(replace(policy, name=NAMED))]


def unpack(data: bytes, *, cell: str, inside: Inside) -> Unpacked:
    """What `cell` has published. Raises InvalidInput for what is no such record."""
    try:
        found = json.loads(data)
        reader = zlib.decompressobj()
        text = reader.decompress(base64.b64decode(found["policies"], validate=True), MOST_TEXT)
        if reader.unconsumed_tail:
            raise ValueError("it is too long")
        rows, left_out = json.loads(text), _number(found["left_out"], least=0)
        read = [_read(row, cell=cell, inside=inside) for row in rows]
    except (ValueError, TypeError, LookupError, RecursionError, zlib.error) as error:
        what = printable(f"what {cell} says of its policy files makes no sense: {error}")
        raise InvalidInput(what, hint="its agent writes it anew when a file changes; see that cell") from error
    policies = tuple(each for each in read if each is not None)
    return Unpacked(policies, left_out + len(read) - len(policies))


def _read(row: Sequence[object], *, cell: str, inside: Inside) -> Policy | None:
    """None for one that this version cannot read. The place names its cell."""
    name, source, line, column, text = row
    try:
        policy = parse_stored(NAMED, str(text), inside=inside)
    except InvalidInput:
        return None
    place = printable(f"{cell}:{str(source)[:LONGEST]}")
    where = Origin(place, _number(line, least=1), _number(column, least=1))  # a line 0 is what the store's policies have
    return replace(policy, name=printable(str(name)[:LONGEST]), origin=where)


def _number(value: object, *, least: int) -> int:
    """JSON has also infinity, and numbers with more digits than can be shown."""
    if type(value) is not int or not least <= value <= MOST_NUMBER:
        raise ValueError(f"a number from {least} to {MOST_NUMBER:,} is expected")
    return value
