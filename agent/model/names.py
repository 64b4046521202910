"""Names: an app is `org/space/app`, each part a DNS label. Everything that names an app goes through `AppName.parse`."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from agent.errors import InvalidInput

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
HOSTNAME = re.compile(rf"{LABEL.pattern}(\.{LABEL.pattern})*")


def is_label(text: str) -> bool:
    """True for a DNS label: a-z, 0-9 and inner hyphens, at most 63 characters."""
    return LABEL.fullmatch(text) is not None


def lowered(text: str) -> str:
    """In lower case, for what a user types. Only ASCII is: a letter of another alphabet must not become one of ours."""
    return text.lower() if text.isascii() else text


@dataclass(frozen=True, slots=True, order=True)
class AppName:
    """The unit of policy."""

    org: str
    space: str
    app: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """`acme/shop/web` -> AppName. Raises InvalidInput with the part that is wrong."""
        return cls(*_parts(text))

    def beside(self, text: str) -> "AppName":
        """The app that `text` names for this one: `db` is of its own space. Raises InvalidInput."""
        return AppName.parse(text if "/" in text else f"{self.org}/{self.space}/{text}")

    def __str__(self) -> str:
        return f"{self.org}/{self.space}/{self.app}"


@dataclass(frozen=True, slots=True, order=True)
class Space:
    """The apps that may share a route."""

    org: str
    space: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """`acme/shop` -> Space. Raises InvalidInput with the part that is wrong."""
        parts = text.split("/")
        if len(parts) != 2:
            raise InvalidInput(f"'{text}' is not a space's name", hint="write org/space, e.g. acme/shop")
        return cls(*_labels(text, parts))

    @classmethod
    def of(cls, app: AppName) -> Self:
        """That of an app."""
        return cls(app.org, app.space)

    def __str__(self) -> str:
        return f"{self.org}/{self.space}"


@lru_cache(maxsize=65536)
def _parts(text: str) -> tuple[str, str, str]:
    """Kept, since stores read the same names again and again."""
    parts = text.split("/")
    if len(parts) != 3:
        raise InvalidInput(f"'{text}' is not an app's name", hint="write org/space/app, e.g. acme/shop/web")
    org, space, app = _labels(text, parts)
    return org, space, app


def _labels(text: str, parts: list[str]) -> list[str]:
    for part in parts:
        if not is_label(part):
            raise InvalidInput(f"'{part}' in '{text}' is not a DNS label", hint="use a-z, 0-9 and inner hyphens, 63 at most")
    return parts
