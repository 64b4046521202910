"""The metrics over TCP, for a Prometheus that is elsewhere: by TLS alone, and to clients with a certificate, a token, or both.

It has an application of its own with one address, so that nothing of the control API is behind it. What a client can hold is
bounded: so many connections at once, each for so long. Its files are looked at each second, and taken up when they change.
"""

import asyncio
import contextlib
import hmac
import os
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from agent import log
from agent.bounded_visitor import BoundedVisitor
from agent.complaint import Complaints
from agent.config.config import MetricsSettings
from agent.control.errors import Handler
from agent.errors import HostRefused
from agent.http_runner import runner
from agent.model.status import Part, Problem
from host.errors import refused_as
from host.trust import require_trusted

HANDSHAKE, LONGEST = 5.0, 30.0  # seconds, of a connection
LOOK, AGAIN = 1.0, 5.0  # seconds between looks at its files, and attempts
BACKLOG = 16
LARGEST = 4096  # bytes of a token

Stamp = tuple[int, int, int] | None


class MetricsListener(Part):
    """One per agent. `problems` says why it does not serve, though it should."""

    def __init__(self, settings: MetricsSettings) -> None:
        self._settings = settings
        self._complaints = Complaints(log.get("metrics"), failed="metrics_not_served", recovered="metrics_served")

    def problems(self) -> tuple[Problem, ...]:
        """See the class."""
        return tuple(Problem("agent", each.what, each.hint) for each in self._complaints.standing.values())

    async def run(self, handler: Handler) -> None:
        """Serve what `handler` answers as `/metrics`, for ever; only where an address is configured."""
        while True:
            before = self._stamps()
            try:
                async with self._serving(handler):
                    self._complaints.over()
                    await self._changed(before)
            except HostRefused as error:
                self._complaints.about(error)
                await asyncio.sleep(AGAIN)

    async def _changed(self, before: tuple[Stamp, ...]) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if self._stamps() != before:
                return

    @contextlib.asynccontextmanager
    async def _serving(self, handler: Handler) -> AsyncIterator[None]:
        settings = self._settings
        assert settings.listen is not None
        context, token = _context(settings), _token(settings)
        app = web.Application(middlewares=[_permission(token)])
        app.router.add_get("/metrics", handler)
        running = runner(app, shutdown=1.0)
        await running.setup()
        try:
            assert running.server is not None
            with refused_as(f"metrics are not served at {settings.listen}", hint="see `ip address` and `ss -ltnp`"):
                visitors = partial(BoundedVisitor, running.server, set[asyncio.Transport](), longest=LONGEST)
                server = await asyncio.get_running_loop().create_server(
                    visitors, str(settings.listen.address),
                    settings.listen.port, ssl=context, ssl_handshake_timeout=HANDSHAKE, backlog=BACKLOG,
                )  # fmt: skip
            async with server:
                yield
        finally:
            await running.cleanup()

    def _stamps(self) -> tuple[Stamp, ...]:
        settings = self._settings
        return tuple(map(_stamp, (settings.cert, settings.key, settings.client_ca, settings.token_file)))


def _stamp(path: Path | None) -> Stamp:
    with contextlib.suppress(OSError):
        if path is not None:
            found = os.stat(path)
            return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def _context(settings: MetricsSettings) -> ssl.SSLContext:
    """Raises HostRefused for files that are missing, damaged, or others'."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    with refused_as("metrics are not served: their certificate cannot be used", hint="see metrics.cert and metrics.key"):
        assert settings.cert is not None
        assert settings.key is not None
        require_trusted(settings.key, secret=True)
        made.load_cert_chain(settings.cert, settings.key, password="")
    if settings.client_ca is not None:
        with refused_as(f"metrics are not served: cannot use {settings.client_ca}", hint="it holds certificates as PEM"):
            require_trusted(settings.client_ca)
            made.load_verify_locations(settings.client_ca)
            made.verify_mode = ssl.CERT_REQUIRED
    return made


def _token(settings: MetricsSettings) -> bytes | None:
    """Raises HostRefused."""
    path = settings.token_file
    if path is None:
        return None
    with refused_as(f"metrics are not served: cannot read {path}", hint="it holds the token as its only line"):
        require_trusted(path, secret=True)
        with path.open("rb") as file:
            token = file.read(LARGEST).strip()
    if not token or b"\n" in token:
        raise HostRefused(f"metrics are not served: {path} does not hold one line", hint="the token is its only line")
    return token


def _permission(token: bytes | None) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="replace")
        if token is not None and not hmac.compare_digest(given, b"Bearer " + token):
            return web.Response(status=401, text="a bearer token is needed\n", headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return check
