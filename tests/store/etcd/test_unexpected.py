"""A client whose library fails unexpectedly: refused like anything else, at the next endpoint tried again."""

from typing import Any

import pytest

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.errors import HostRefused
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.connection import EtcdAccess

ENDPOINTS = (EtcdEndpoint("127.0.0.1", 1, tls=False), EtcdEndpoint("127.0.0.1", 2, tls=False))


class Faulty(EtcdAccess):
    """Makes no channel, but notes for what."""

    asked: list[EtcdEndpoint]

    def channel(self, endpoint: EtcdEndpoint) -> Any:
        self.asked.append(endpoint)
        raise ValueError("Channel is closed.")


async def test_whatever_the_library_raises_is_a_refusal_once_all_endpoints_were_asked() -> None:
    config = Etcd(endpoints=ENDPOINTS)
    access = Faulty(config)
    Faulty.asked = []
    client = EtcdClient(config, access=access)
    with pytest.raises(HostRefused, match="Channel is closed"):
        await client.read("/cellnet/")
    assert set(Faulty.asked) == set(ENDPOINTS)
    await client.close()


async def test_a_watch_ends_with_a_refusal_too() -> None:
    config = Etcd(endpoints=ENDPOINTS)
    Faulty.asked = []
    client = EtcdClient(config, access=Faulty(config))
    with pytest.raises(HostRefused, match="Channel is closed"):
        async for _ in client.watch("/cellnet/", since=0):
            pass
    await client.close()
