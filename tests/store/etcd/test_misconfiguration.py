"""Mistakes in store.etcd that look like an outage: each is reported with what to do about it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.etcd import EtcdEndpoint
from agent.errors import Unavailable
from agent.store.etcd.client import EtcdClient
from tests.testlib.stores.etcd import Etcd, running
from tests.testlib.stores.secured_etcd import certify


def started(folder: Path, *, ask: bool = False) -> Iterator[Etcd]:
    certify(folder, "ca")
    for name in ("server", "root"):
        certify(folder, name, issuer="ca")
    yield from running(Etcd(folder / "etcd", certificates=folder, ask=ask))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    yield from started(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def certificate_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    yield from started(tmp_path_factory.mktemp("mtls"), ask=True)


async def hint(etcd: Etcd, **changes: object) -> str:
    client = EtcdClient(replace(etcd.config, **changes))  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as refused:
        await client.read("/")
    await client.close()
    return refused.value.hint


async def test_a_ca_that_is_not_etcds_is_reported(plain: Etcd, tmp_path: Path) -> None:
    certify(tmp_path, "another")
    assert "store.etcd.ca must be the CA" in await hint(plain, ca=tmp_path / "another.crt")


async def test_a_ca_that_is_no_certificate_is_reported(plain: Etcd, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("x")
    assert "must be PEM" in await hint(plain, ca=tmp_path / "ca.crt")


async def test_an_endpoint_where_no_etcd_is_is_reported(plain: Etcd) -> None:
    nowhere = (EtcdEndpoint("127.0.0.1", 1, tls=True),)
    assert "store.etcd.endpoints and the network lead to it" in await hint(plain, endpoints=nowhere)


async def test_an_etcd_that_wants_a_certificate_is_reported(certificate_etcd: Etcd) -> None:
    assert "store.etcd.cert and key" in await hint(certificate_etcd)


async def test_a_certificate_that_is_renewed_is_taken_up(certificate_etcd: Etcd, tmp_path: Path) -> None:
    certify(tmp_path, "mine")
    mine = replace(certificate_etcd.config, cert=tmp_path / "mine.crt", key=tmp_path / "mine.key")
    client = EtcdClient(mine)
    with pytest.raises(Unavailable):
        await client.read("/")
    assert mine.ca is not None
    for name in ("crt", "key"):
        shutil.copy(mine.ca.parent / f"root.{name}", tmp_path / f"mine.{name}")
    assert (await client.read("/")).values == {}
    (tmp_path / "mine.key").unlink()
    assert (await client.read("/")).values == {}, "what was read once serves on"
    await client.close()


async def test_http_where_etcd_has_tls_is_reported(plain: Etcd) -> None:
    assert "https://" in await hint(plain, endpoints=(replace(plain.endpoint, tls=False),))


async def test_another_name_than_that_of_etcds_certificate_is_reported(plain: Etcd) -> None:
    assert "must name the address" in await hint(plain, endpoints=(replace(plain.endpoint, host="localhost"),))
