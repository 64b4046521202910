"""Names of hosts outside as rights have them: `api.example.com`, or `*.example.org` for all names below that. Pure."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

STAR: Final = "*."
ESCAPE: Final = "\\"


class NamePatterns:
    """Several, in which a name is found in a few steps however many there are."""

    def __init__(self, patterns: Iterable[str]) -> None:
        found = tuple(patterns)
        self._exact = frozenset(each for each in found if not each.startswith(STAR))
        self._below = frozenset(each.removeprefix(STAR) for each in found if each.startswith(STAR))

    def matches(self, name: str) -> bool:
        """Whether one of them means a name, in lower case and without a dot at its end.

        None means one with a dot in a label (`x\\.example.org`, which is below `org` alone), nor with another byte written so.
        """
        if ESCAPE in name:
            return False
        if name in self._exact:
            return True
        rest = name
        while self._below and rest:
            _, _, rest = rest.partition(".")
            if rest in self._below:
                return True
        return False


@lru_cache(maxsize=1024)
def patterns_of(names: tuple[str, ...]) -> NamePatterns:
    """The same for the same names: every question and every flow asks."""
    return NamePatterns(names)
