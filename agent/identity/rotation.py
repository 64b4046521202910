"""Where a rotation of the root is: three steps, each over once every cell that is waited for says so itself.

    TRUST   the root that comes is published, and every cell trusts it
    SIGN    it signs: no cell presents anything that leads to a root that goes
    END     the roots that go are published no more, and no cell trusts them
    DONE

All is worked out anew from what the store has and what cells say, so it may be asked at any time, by any cell, after any crash.
A cell can lie only about itself, and so delay a step, or harm nothing but its own calls. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from agent.model.cell import RootsInUse
from agent.model.rotation import Rotation


class Step(Enum):
    """See above."""

    TRUST = "trust"
    SIGN = "sign"
    END = "end"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Awaited:
    """A cell that a step waits for, why, and what its operator can do."""

    cell: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class Standing:
    """The step that is under way, and the cells that it waits for. Without any there is something to be published."""

    step: Step
    awaited: tuple[Awaited, ...] = ()


Words = Mapping[str, RootsInUse | None]
"""What cells say of their roots, by name; None where that makes no sense."""


def standing(rotation: Rotation, *, published: frozenset[str], words: Words) -> Standing:
    """The first step that is not over. `published`: fingerprints of the store's roots; `words` of all cells that count."""
    untrusting = tuple(_untrusting(rotation, words))
    if rotation.root not in published or untrusting:
        return Standing(Step.TRUST, untrusting)
    signing = tuple(_signing(rotation, words))
    if signing:
        return Standing(Step.SIGN, signing)
    trusting = tuple(_trusting(rotation, words))
    if published & rotation.former or trusting:
        return Standing(Step.END, () if published & rotation.former else trusting)
    return Standing(Step.DONE)


def _untrusting(rotation: Rotation, words: Words) -> Iterator[Awaited]:
    for name, word in words.items():
        if word is None:
            yield Awaited(name, "what it says of itself makes no sense", "'cellnet status' names the record")
        elif not word.trusts:
            hint = "its Envoy may not run, or its agent may be too old: see 'cellnet status' there"
            yield Awaited(name, "it does not say which roots it trusts", hint)
        elif rotation.root not in word.trusts:
            yield Awaited(name, "it does not trust the root that comes yet", "see 'cellnet status' there")


def _signing(rotation: Rotation, words: Words) -> Iterator[Awaited]:
    for name, word in words.items():
        if word is not None and rotation.former & set(word.signs_with):
            made = f"'cellnet ca issue-cell --cell {name} --out {name}'"
            where = "where the key of the root that comes is"
            hint = f"run {made} {where}, and copy the three files into the cell's folder ca; move a root.key that is there away"
            yield Awaited(name, "it signs with a root that goes", hint)


def _trusting(rotation: Rotation, words: Words) -> Iterator[Awaited]:
    for name, word in words.items():
        if word is not None and rotation.former & set(word.trusts):
            yield Awaited(name, "it still trusts a root that goes", "see 'cellnet status' there")


def is_ready(rotation: Rotation, word: RootsInUse | None) -> bool:
    """Whether a cell that says this needs no root that goes, and trusts the one that comes."""
    return word is not None and rotation.root in word.trusts and not rotation.former & set(word.signs_with)
