"""An etcd that takes connections and never answers: every call comes to an end that says so."""

from pathlib import Path

import pytest

from agent.errors import Unavailable
from agent.store.etcd.client import EtcdClient, put
from tests.testlib.stores.etcd import Etcd


async def test_every_call_to_a_silent_etcd_ends_as_unavailable_and_works_again_when_it_speaks(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    client = EtcdClient(etcd.config, seconds=0.5)
    try:
        lease = await client.grant(60)
        await client.keep(lease)
        etcd.freeze()
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
        etcd.thaw()
        await client.keep(await client.grant(60))
    finally:
        await client.close()
        etcd.kill()


async def test_a_commit_without_an_answer_is_reported_as_possibly_done(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    client = EtcdClient(etcd.config, seconds=0.5)
    try:
        await client.commit(do=[put("/k", b"1")])
        etcd.freeze()
        with pytest.raises(Unavailable) as caught:
            await client.commit(do=[put("/k", b"2")])
        assert "may have been done" in caught.value.hint
    finally:
        await client.close()
        etcd.kill()
