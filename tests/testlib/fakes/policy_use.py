"""Policies of a cell in memory, none of which any flow has used."""

from collections.abc import Callable, Collection
from datetime import datetime

from agent.insight.policy_use import PolicyUse, Unused, UnusedPolicy
from agent.model.names import AppName
from agent.model.policy import Policy


class FakePolicyUse(PolicyUse):
    """All are unused."""

    def __init__(self, at: datetime, policies: Callable[[], tuple[Policy, ...]]) -> None:
        self._at = at
        self._all = policies

    async def unused(self, apps: Collection[AppName], *, within: float | None) -> Unused:
        return Unused(self._at, tuple(UnusedPolicy(each, self._at, None) for each in self._all()), 0)
