"""A change of policies that somebody thinks of: what would be written if it were made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import InvalidInput
from agent.model.names import Space
from agent.model.outside import Inside
from agent.model.policy import Pattern, Policy
from agent.policy.language import language


@dataclass(frozen=True, slots=True)
class Written:
    """The policies of this cell's files, in `directory`, and those of the store."""

    directory: Path
    files: tuple[Policy, ...]
    stored: tuple[Policy, ...]
    inside: Inside


@dataclass(frozen=True, slots=True)
class Proposal:
    """Texts of files of the directory, by name, beside what is there or, with `whole`, in its place; the text of a file for the
    store; names that the store shall lose, or all of a space there.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    document: str | None = None
    names: tuple[str, ...] = ()
    space: Space | None = None

    def on(self, held: Written) -> tuple[Policy, ...]:
        """All that would be written then. Raises InvalidSource for a text with mistakes, InvalidInput for an unknown name."""
        files = list(self._files(held))
        stored = {each.name: each for each in held.stored}
        for name in self.leaving(held.stored):
            del stored[name]
        if self.document is not None:
            content = self.document.encode(errors="surrogateescape")
            stored |= {each.name: each for each in language.parse_applied(content, source="policies", inside=held.inside)}
        return (*files, *(stored[name] for name in sorted(stored)))

    def leaving(self, stored: Iterable[Policy]) -> tuple[str, ...]:
        """The names that the store would lose. Raises InvalidInput for one that it has not."""
        known = {each.name: each for each in stored}
        for name in self.names:
            if name not in known:
                raise InvalidInput(f"there is no policy '{name}' in the store", hint="see 'cellnet policy list'")
        of_space = () if self.space is None else (each.name for each in known.values() if _belongs(each, self.space))
        return tuple(dict.fromkeys((*self.names, *of_space)))

    def _files(self, held: Written) -> Iterable[Policy]:
        replaced = {str(held.directory / name) for name in self.files}
        if not self.whole:
            yield from (each for each in held.files if each.origin.source not in replaced)
        for name, text in sorted(self.files.items()):
            content = text.encode(errors="surrogateescape")
            yield from language.parse(content, source=str(held.directory / name), inside=held.inside)


def _belongs(policy: Policy, space: Space) -> bool:
    """Whether it is about a space alone: all that it opens is there, or all that may use it."""
    if isinstance(policy.to, Pattern) and _lies_in(policy.to, space):
        return True
    callers = policy.sources if isinstance(policy.sources, tuple) else ()
    return bool(callers) and all(isinstance(each, Pattern) and _lies_in(each, space) for each in callers)


def _lies_in(pattern: Pattern, space: Space) -> bool:
    return (pattern.org, pattern.space) == (space.org, space.space)
