"""What a transaction can ask of records before it writes: of one, and of all below one."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from agent.store.etcd.client import EtcdClient, put, remove, untouched
from tests.testlib.stores.etcd import Etcd


@pytest.fixture
async def client(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    client = EtcdClient(etcd.config)
    yield client
    await client.close()


async def test_what_nothing_has_written_since_is_untouched_with_all_below_it(client: EtcdClient) -> None:
    base = f"/test-{uuid4().hex}"
    since = await client.commit(do=[put(f"{base}/a/b", b"1"), put(f"{base}/b", b"1")])
    assert since is not None
    nothing = untouched(f"{base}/none/", since=since, below=True), untouched(f"{base}/none", since=since)
    for key in (f"{base}/a/", f"{base}/"):
        assert await client.commit(when=[*nothing, untouched(key, since=since, below=True)], do=[])
    await client.commit(do=[put(f"{base}/a/c", b"1")])
    assert await client.commit(when=[untouched(f"{base}/a/", since=since, below=True)], do=[]) is None
    assert await client.commit(when=[untouched(f"{base}/a/c", since=since)], do=[]) is None
    assert await client.commit(when=[untouched(f"{base}/a", since=since), untouched(f"{base}/b", since=since)], do=[])
    await client.commit(do=[remove(f"{base}/a/c")])
    assert await client.commit(when=[untouched(f"{base}/a/", since=since, below=True)], do=[]), "what is gone holds nothing"


async def test_a_record_tells_whether_it_was_changed_since_it_was_made(client: EtcdClient) -> None:
    base = f"/test-{uuid4().hex}"
    await client.commit(do=[put(f"{base}/a", b"1"), put(f"{base}/b", b"1")])
    await client.commit(do=[put(f"{base}/b", b"1")])
    await client.commit(do=[remove(f"{base}/a")])
    await client.commit(do=[put(f"{base}/a", b"2")])
    found = (await client.read(base)).values
    assert {key[-1]: value.is_as_made for key, value in found.items()} == {"a": True, "b": False}
