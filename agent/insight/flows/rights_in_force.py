"""Which policy allows a flow, by name and place. Asked of every flow: what was found is kept while policies stay the same."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from agent.insight.names_outside import NamesOf, meanings
from agent.model.policy import Policy, Protocol
from agent.policy.parties import Party

KEPT: Final = 8_192  # answers

Check = Callable[[Party, Party, Protocol, int], Awaitable[Policy | None]]


class Right(NamedTuple):
    """`policy` is "" where none of a policy's name allows it, both are where nothing does. `audit`: one in audit alone does."""

    policy: str = ""
    origin: str = ""
    audit: bool = False


NONE: Final = Right()


class RightsInForce:
    """`in_force` is the same object while policies are the same; `names_of` are those that an address outside stands for."""

    def __init__(self, check: Check, *, in_force: Callable[[], Awaitable[object]], names_of: NamesOf) -> None:
        self._check = check
        self._in_force = in_force
        self._names_of = names_of
        self._of: object = None
        self._known: dict[tuple[Party, Party, Protocol, int], Right] = {}

    async def refresh(self) -> None:
        """Go by the policies as they are now."""
        now = await self._in_force()
        if now is not self._of or len(self._known) > KEPT:
            self._of = now
            self._known.clear()

    async def right(self, source: Party, to: Party, protocol: Protocol, port: int) -> Right:
        """As of the last `refresh`. At most one of both is outside."""
        key = (source, to, protocol, port)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = await self._ask(*key)
        return found

    async def _ask(self, source: Party, to: Party, protocol: Protocol, port: int) -> Right:
        for end in meanings(to, self._names_of):
            found = await self._check(source, end, protocol, port)
            if found is not None:
                return Right(found.name, str(found.origin), found.audit)
        return NONE
