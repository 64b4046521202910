"""An etcd that takes connections and never answers: every call comes to an end that says so."""

import signal
from pathlib import Path

import pytest

from agent.errors import Unavailable
from agent.store.etcd.client import EtcdClient, put
from tests.testlib.etcd import Etcd


async def test_every_call_to_a_silent_etcd_ends_as_unavailable_and_works_again_when_it_speaks(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    client = EtcdClient(etcd.config, seconds=0.5)
    try:
        lease = await client.grant(60)
        await client.keep(lease)
        etcd.signal(signal.SIGSTOP)
        for call in (
            client.keep(lease),
            client.grant(60),
            client.revoke(lease),
            client.read("/"),
            client.commit(do=[put("/k", b"1")]),
            anext(client.watch("/", since=0, silent=0.5)),
        ):
            with pytest.raises(Unavailable):
                await call
        etcd.signal(signal.SIGCONT)
        await client.keep(await client.grant(60))
    finally:
        await client.close()
        etcd.kill()
