"""What the environment calls a proxy gets nothing of what is meant for etcd."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from agent.store.etcd.client import EtcdClient, put
from tests.testlib.stores.etcd import Etcd

VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
ADDRESS = ("GRPC_ADDRESS_HTTP_PROXY", "GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES")


@pytest.fixture
async def heard(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[bytes]]:
    """What a proxy has received that every variable names."""
    received: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(record, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    for name in VARIABLES:
        monkeypatch.setenv(name, f"http://{host}:{port}")
        monkeypatch.setenv(name.upper(), f"http://{host}:{port}")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(ADDRESS[0], f"{host}:{port}")
    monkeypatch.setenv(ADDRESS[1], "127.0.0.0/8")
    yield received
    server.close()


async def test_etcd_is_reached_directly_whatever_proxy_the_environment_names(etcd: Etcd, heard: list[bytes]) -> None:
    client = EtcdClient(etcd.config, seconds=2.0)
    await client.commit(do=[put("/proxies/a", b"1")])
    async for _ in client.watch("/proxies/", since=0):
        break
    await client.close()
    assert heard == []


async def test_nor_does_one_with_tls_learn_of_a_connection(certificate_etcd: Etcd, heard: list[bytes]) -> None:
    files = certificate_etcd.config.ca
    assert files is not None
    secured = replace(certificate_etcd.config, cert=files.parent / "root.crt", key=files.parent / "root.key")
    client = EtcdClient(secured, seconds=2.0)
    await client.read("/")
    await client.close()
    assert heard == []
