"""The way from one cell to its etcd, which a test can cut: a relay on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Self

from agent.config.etcd import Etcd as Config
from agent.config.etcd import EtcdEndpoint
from tests.testlib.stores.etcd import Etcd


class Relay:
    """Between `cut` and `mend` every connection ends, and nothing comes through. After `lose` old connections are silent."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self._whole = True
        self._ends: set[asyncio.StreamWriter] = set()
        self._lost: set[asyncio.StreamWriter] = set()
        self.config: Config = etcd.config

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, etcd: Etcd) -> AsyncIterator[Self]:
        """A wire to this etcd; `config` is how a cell reaches it over the wire."""
        wire = cls(etcd)
        server = await asyncio.start_server(wire._join, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wire.config = replace(etcd.config, endpoints=(EtcdEndpoint("127.0.0.1", port, tls=False),))
        try:
            yield wire
        finally:
            server.close()
            wire.cut()

    def cut(self) -> None:
        """As when a cable is pulled, and noticed."""
        self._whole = False
        for end in self._ends:
            end.close()

    def lose(self) -> None:
        """As when this host's address goes: what is connected carries nothing any more, and nothing says so."""
        self._lost |= self._ends

    def mend(self) -> None:
        """Let connections through again."""
        self._whole = True

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.close()
            return
        there = self._etcd.endpoint
        far_reader, far_writer = await asyncio.open_connection(there.host, there.port)
        self._ends |= {writer, far_writer}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self._ends -= {writer, far_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(65536):
                if writer not in self._lost:
                    writer.write(some)
                    await writer.drain()
        finally:
            writer.close()
