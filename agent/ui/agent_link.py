"""The way to the agent: what the page asks goes over its socket as it is, with the rights of this process."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

WITHIN: Final = 90.0  # seconds: more than the agent gives itself
LARGEST: Final = 64 << 20  # bytes of an answer


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back: JSON, and its status."""

    status: int
    body: bytes

    @property
    def is_well(self) -> bool:
        """Whether it is no error."""
        return self.status < 400


@dataclass(frozen=True, slots=True)
class AgentLink:
    """Asks the agent whose control socket is at `path`."""

    path: Path

    async def ask(self, method: str, address: str, body: object = None) -> Answered:
        """One request. What prevents an answer comes back as an error in the API's one shape."""
        try:
            async with self._answer(method, address, body, within=WITHIN) as given:
                found = bytearray()
                async for part in given.content.iter_any():
                    found += part
                    if len(found) > LARGEST:
                        return failed(503, "Unavailable", "the agent's answer is too large", hint="ask for less")
                return Answered(given.status, bytes(found))
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            return self._lost(error)

    @contextlib.asynccontextmanager
    async def stream(self, address: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that does not end. Raises OSError, aiohttp.ClientError."""
        async with self._answer("GET", address, None, within=None) as given:
            yield given

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, address: str, body: object, *, within: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A socket's address holds 107 bytes; through its folder's descriptor any path fits."""
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connector = aiohttp.UnixConnector(f"/proc/self/fd/{folder}/{self.path.name}")
            timeout = aiohttp.ClientTimeout(total=within)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.request(method, f"http://cell{address}", json=body, allow_redirects=False) as given,
            ):
                yield given
        finally:
            os.close(folder)

    def _lost(self, error: Exception) -> Answered:
        if _is_about(error, PermissionError):
            return failed(403, "Forbidden", f"you may not use {self.path}", hint="be root, or in group cellnet to look")
        if isinstance(error, TimeoutError):
            return failed(503, "Unavailable", f"the agent did not answer within {WITHIN:g} s", hint="see its log")
        return failed(503, "Unavailable", f"no agent answers at {self.path}", hint="see `systemctl status cellnet-agent`")


def failed(status: int, kind: str, what: str, *, hint: str) -> Answered:
    """As the agent writes it."""
    error: Mapping[str, str] = {"kind": kind, "what": what, "hint": hint}
    return Answered(status, json.dumps({"error": error}).encode())


def _is_about(error: Exception, kind: type[OSError]) -> bool:
    return isinstance(error, kind) or isinstance(getattr(error, "os_error", None), kind)
