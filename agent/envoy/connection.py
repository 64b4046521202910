"""What Envoy has of what it should serve, as it reports itself: over ADS, and at its admin socket."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import HostRefused, Unavailable
from agent.model.status import Part, Problem, as_problems
from dataplane.envoy.ads.ads import AdsServer
from dataplane.envoy.process import admin


@dataclass(frozen=True, slots=True)
class EnvoyRow:
    """`rejected` are the resources that Envoy refused, with its words. Without its admin socket the version is unknown."""

    connected: bool
    version: str | None
    listeners: int
    rejected: tuple[str, ...]


class EnvoyConnection(Part):
    """`admin_socket` is Envoy's own; `obstacle` finds what can keep it from starting."""

    def __init__(self, ads: AdsServer, *, admin_socket: Path, obstacle: Callable[[], HostRefused | None]) -> None:
        self._ads = ads
        self._admin = admin_socket
        self._obstacle = obstacle

    def problems(self) -> Iterator[Problem]:
        """That it is not connected, and what it refuses."""
        status = self._ads.status()
        if not status.connected:
            what = "Envoy is not connected: no TLS, no new attachments"
            hint = "its unit, or `cellnet up`, starts it again by itself: see its log (`journalctl -u cellnet-envoy`)"
            yield Problem("envoy", what, hint)
            with suppress(HostRefused):
                yield from as_problems("envoy", self._obstacle())
        for key, words in status.refused.items():
            yield Problem("envoy", f"Envoy refused {key}: {words}")

    async def rows(self) -> Mapping[str, object]:
        """`envoy`."""
        status = self._ads.status()
        version, listeners = await asyncio.to_thread(self._ask)
        refused = tuple(f"{key}: {words}" for key, words in status.refused.items())
        return {"envoy": EnvoyRow(status.connected, version, listeners, refused)}

    def _ask(self) -> tuple[str | None, int]:
        try:
            return admin.server(self._admin).version, len(admin.listeners(self._admin))
        except Unavailable:
            return None, 0
