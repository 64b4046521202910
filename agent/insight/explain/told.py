"""A question to another cell and its answer, as records of the store. Another machine wrote them: both are judged when read.

question  {"id": …, "from": "acme/shop/web", "to": "acme/shop/api", "port": "tcp/8080"}
answer    {"id": that of the question, "steps": [[who knows it, name, ok, what, hint], …]}
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.errors import InvalidInput
from agent.insight.explain.way import PUBLISHED, WayStep

KERNEL, INTERFACE, ENCRYPTION, LISTENER, OUTSIDE = "kernel", "interface", "encryption", "listener", "outside"
NAMES: Final = {
    KERNEL: frozenset((KERNEL, "Envoy")),
    INTERFACE: frozenset((INTERFACE,)),
    ENCRYPTION: frozenset((ENCRYPTION, "certificate", "Envoy")),
    LISTENER: frozenset((LISTENER,)),
    OUTSIDE: frozenset((OUTSIDE, "address", PUBLISHED, "limits")),
}
"""Those that only a cell's own know, and the names of their steps: some decide what follows from all."""
LARGEST: Final = 16_384  # bytes of a record
STEPS, LONGEST, LONGEST_ID = 32, 500, 64


@dataclass(frozen=True, slots=True)
class AskedCell:
    """One question, in the words of the command line."""

    id: str
    source: str
    to: str
    service: str

    def encode(self) -> bytes:
        """As it is written."""
        return json.dumps({"id": self.id, "from": self.source, "to": self.to, "port": self.service}).encode()

    @classmethod
    def decode(cls, data: bytes) -> "AskedCell":
        """Raises InvalidInput for what makes no sense."""
        found = _object(data)
        return cls(*(_text(found.get(name), longest=LONGEST) for name in ("id", "from", "to", "port")))


@dataclass(frozen=True, slots=True)
class KnownStep:
    """A step, and which informant knows it."""

    informant: str
    step: WayStep


def encode_answer(question: AskedCell, known: Iterable[KnownStep]) -> bytes:
    """As much of it as one record holds: what stands in the way first, where that is not all."""
    steps: list[list[object]] = []
    for each in known:
        step = each.step
        steps.append([each.informant, step.name, step.ok, step.what[:LONGEST], step.hint[:LONGEST]])
    kept = steps
    if len(steps) > STEPS or len(json.dumps(steps)) > LARGEST // 2:
        kept = sorted(steps, key=lambda step: step[2] is not False)[:STEPS]
    while len(data := json.dumps({"id": question.id[:LONGEST_ID], "steps": kept}).encode()) > LARGEST:
        kept = kept[:-1]
    return data


def decode_answer(data: bytes, question: AskedCell) -> tuple[KnownStep, ...] | None:
    """None where it is of another question. Raises InvalidInput for what makes no sense."""
    found = _object(data)
    if found.get("id") != question.id:
        return None
    steps = found.get("steps")
    if not isinstance(steps, list) or len(steps) > STEPS:
        raise InvalidInput("an answer without steps, or with too many")
    return tuple(map(_step, steps))


def _step(found: object) -> KnownStep:
    if not isinstance(found, list) or len(found) != 5:
        raise InvalidInput("a step that is none")
    informant, name, ok, what, hint = found
    if informant not in NAMES or not (ok is None or isinstance(ok, bool)):
        raise InvalidInput("a step that nobody here knows")
    name, what, hint = (_text(each, longest=LONGEST) for each in (name, what, hint))
    if name not in NAMES[informant]:
        raise InvalidInput("a step by the name of another")
    return KnownStep(informant, WayStep(name, ok, what, hint))


def _text(found: object, *, longest: int) -> str:
    """Terminals and pages show it: nothing in it may move a cursor."""
    if not isinstance(found, str) or len(found) > longest or not found.isprintable():
        raise InvalidInput("a text that is none, too long, or not printable")
    return found


def _object(data: bytes) -> dict[str, object]:
    if len(data) > LARGEST:
        raise InvalidInput(f"a record of {len(data)} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("a record that is no JSON") from error
    if not isinstance(found, dict):
        raise InvalidInput("a record that is no object")
    return found
