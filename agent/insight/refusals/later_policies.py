"""Whether a policy lets by now what was denied: what has been mended since is no wish any more."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from agent.errors import InvalidInput
from agent.insight.flows.rights_in_force import Check
from agent.insight.refusals.denied import Pair, Reason, Tally
from agent.model.policy import Protocol
from agent.policy.parties import Party, party_of

OF_POLICIES: Final = (Reason.POLICY, Reason.EGRESS, Reason.INGRESS, Reason.AUDIT)
STRETCH: Final = 200  # pairs that are judged before others have their turn
PROTOCOLS: Final = {each.value: each for each in Protocol}


class LaterPolicies:
    """`check` says which policy lets one end reach another, one in audit last."""

    def __init__(self, check: Check) -> None:
        self._check = check

    async def allowed(self, denied: Iterable[tuple[Pair, Tally]]) -> frozenset[Pair]:
        """Those that a policy in force lets pass by now."""
        found = set[Pair]()
        for number, (pair, tally) in enumerate(denied):
            if number % STRETCH == 0:
                await asyncio.sleep(0)
            if pair.reason in OF_POLICIES and pair.protocol in PROTOCOLS and await self._is_allowed(pair, tally.names):
                found.add(pair)
        return frozenset(found)

    async def _is_allowed(self, pair: Pair, names: tuple[str, ...]) -> bool:
        for source, to in _ends(pair, names):
            with suppress(InvalidInput):  # no policy speaks of such ends
                policy = await self._check(source, to, PROTOCOLS[pair.protocol], pair.port)
                if policy is not None and not policy.audit:
                    return True
        return False


def _ends(pair: Pair, names: tuple[str, ...]) -> Iterator[tuple[Party, Party]]:
    """Its destination may be meant by an address, or by a name that led to it."""
    for to in (pair.to, *names):
        with suppress(InvalidInput):
            yield party_of(pair.source), party_of(to)
