"""Whose an address or a tag is, also of an app that has gone."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Address
from typing import Final

from agent.model.names import AppName

GONE: Final = 1_024  # addresses whose app is remembered


class Whose:
    """One per agent. `app_at`: which app has an address now; `tags`: those of apps."""

    def __init__(
        self, app_at: Callable[[IPv4Address], AppName | None], tags: Callable[[], Awaitable[Mapping[AppName, int]]]
    ) -> None:
        self._app_at = app_at
        self._tags = tags
        self._by_tag: tuple[Mapping[AppName, int], dict[int, AppName]] = ({}, {})
        self._known: OrderedDict[IPv4Address, AppName] = OrderedDict()

    async def refresh(self) -> None:
        """Know the tags as they are now."""
        tags = await self._tags()
        if self._by_tag[0] is not tags:
            self._by_tag = (tags, {tag: app for app, tag in tags.items()})

    def with_tag(self, tag: int) -> AppName | None:
        """As of the last `refresh`. An app has its tag even when it has gone."""
        return self._by_tag[1].get(tag)

    def at(self, address: IPv4Address) -> AppName | None:
        """Of one that has gone the app that had it last, as far as it was seen here."""
        found = self._app_at(address)
        if found is None:
            return self._known.get(address)
        self._known[address] = found
        self._known.move_to_end(address)
        if len(self._known) > GONE:
            self._known.popitem(last=False)
        return found
