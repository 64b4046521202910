"""A container as its engine knows it: what comes back when it ends, whatever name its attachment has got."""

import re
from dataclasses import dataclass

from agent.errors import InvalidInput

WORD = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
"""What the CNI specification has of ids of containers and names of networks."""


@dataclass(frozen=True, slots=True, order=True)
class EngineContainer:
    """`interface` is the name inside: a container may be on a network twice. Raises InvalidInput for an id that is none."""

    id: str
    interface: str
    network: str

    def __post_init__(self) -> None:
        for what, text in (("container", self.id), ("network", self.network)):
            if not WORD.fullmatch(text):
                raise InvalidInput(f"{text!r} is not the id of a {what}", hint="letters, digits, '_', '.' and '-'")
