"""The store's policies as they are understood: of 60,000 only those are parsed whose documents have changed."""

import asyncio
from typing import cast

from agent.errors import InvalidInput
from agent.model.policy import Policy
from agent.policy import language
from agent.policy.difference import difference
from agent.store.protocols import StoredPolicy

STRETCH = 500  # that are parsed before others have their turn


class Stored:
    """One per agent. One that this version cannot read is left out and told; the others hold."""

    def __init__(self) -> None:
        self._documents: tuple[StoredPolicy, ...] = ()
        self._parsed: tuple[Policy | InvalidInput, ...] = ()  # in the order of the documents
        self.policies: tuple[Policy, ...] = ()
        self.problems: tuple[str, ...] = ()

    async def follow(self, documents: tuple[StoredPolicy, ...]) -> tuple[Policy, ...]:
        """What these mean; the same object as long as they are the same."""
        if documents is self._documents:
            return self.policies
        change, before = difference(self._documents, documents), self._parsed
        end = change.place + len(change.removed)
        known = dict(zip(change.removed, before[change.place : end], strict=True))
        added: list[Policy | InvalidInput] = []
        for number, each in enumerate(change.added, start=1):
            added.append(known[each] if each in known else _parsed(each))
            if number % STRETCH == 0:
                await asyncio.sleep(0)
        if self._documents is not documents:  # somebody else who asked may have been quicker
            self._take(documents, (*before[: change.place], *added, *before[end:]))
        return self.policies

    def _take(self, documents: tuple[StoredPolicy, ...], parsed: tuple[Policy | InvalidInput, ...]) -> None:
        self._documents, self._parsed = documents, parsed
        self.policies = cast("tuple[Policy, ...]", parsed)
        self.problems = ()
        if set(map(type, parsed)) - {Policy}:  # in C, and of all: it may be 60,000
            self.policies = tuple(each for each in parsed if isinstance(each, Policy))
            pairs = zip(documents, parsed, strict=True)
            wrong = ((each.name, found) for each, found in pairs if isinstance(found, InvalidInput))
            self.problems = tuple(f"policy '{name}' in the store: {found.what}" for name, found in wrong)


def _parsed(each: StoredPolicy) -> Policy | InvalidInput:
    try:
        return language.parse_stored(each.name, each.document)
    except InvalidInput as error:
        return error
