"""An operator's rights for one request, at an etcd that knows its users: used for what is written, and then forgotten."""

import asyncio
import contextlib
import gc
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import structlog

from agent.config.etcd import Etcd as Config
from agent.config.etcd import EtcdEndpoint
from agent.config.load import load
from agent.daemon.storage import open_storage
from agent.errors import HostRefused, InvalidInput, Unavailable
from agent.model.cell import CellRecord
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName, Space
from agent.model.rotation import Rotation
from agent.store.database import Database
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.operator import OperatorAccess, client_of
from agent.store.etcd.store import EtcdStore
from agent.store.protocols import StoredPolicy
from tests.testlib.stores.etcd import Etcd, secret_file
from tests.testlib.stores.secured_etcd import SECRET, add_operator, certify, secured

OPERATOR = StoreCredentials(username="operator", password=SECRET)
POLICY, OTHER = StoredPolicy("a", "1"), StoredPolicy("b", "1")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One that knows a cell and an operator, as docs/cells.md makes that."""
    for made in secured(tmp_path_factory.mktemp("etcd"), ask=False):
        add_operator(made)
        yield made


@dataclass
class Opened:
    """A cell's store as the agent opens it."""

    store: EtcdStore
    database: Path


@pytest.fixture
def root() -> Iterator[Path]:
    """With a short path: sockets would be below it."""
    with tempfile.TemporaryDirectory(prefix="cnt-") as made:
        yield Path(made)


@pytest.fixture
async def cell(etcd: Etcd, tmp_path: Path, root: Path) -> AsyncIterator[Opened]:
    password = secret_file(tmp_path / "password", "SECRET\n")
    store = replace(etcd.config, username="cell-1", password_file=password)
    config = replace(load(tmp_path / "none.yaml", root=root, hostname="cell-1"), store=store)
    config.paths.database.parent.mkdir(parents=True)
    async with contextlib.AsyncExitStack() as stack:
        database = Database(config.paths.database)
        stack.callback(database.close)
        made = open_storage(config, database, stack)
        assert made.shared is not None
        stack.callback(asyncio.get_running_loop().create_task(made.shared.run()).cancel)
        await made.cells.claim_subnet("id", network=IPv4Network("10.255.0.0/16"), cell_prefix=24, now=0)
        yield Opened(made.shared, config.paths.database)
    etcd.ctl("--user", f"operator:{SECRET}", "del", "--prefix", "/cellnet/v1/")


async def test_an_operator_may_what_the_cell_may_not_and_the_cell_may_no_more_afterwards(cell: Opened) -> None:
    store = cell.store
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this") as refused:
        await store.apply_policies([POLICY])
    assert "the operator's (--store-credentials FILE)" in refused.value.hint
    await store.apply_policies([POLICY], writer=OPERATOR)
    await store.set_trust(b"PEM", writer=OPERATOR)
    assert await store.policies() == (POLICY,)
    assert await store.trust() == b"PEM"
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.delete_policy(POLICY.name)
    await store.delete_policy(POLICY.name, writer=OPERATOR)
    assert await store.policies() == ()


async def test_an_operator_maps_and_frees_routes_that_the_cell_may_only_claim(cell: Opened) -> None:
    routes, web = cell.store.names.routes, AppName("acme", "shop", "web")
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await routes.map_route("web.apps.internal", web)
    await routes.map_route("web.apps.internal", web, writer=OPERATOR)
    assert routes.routes()["web.apps.internal"].apps == {web}
    await routes.claim_route("other.apps.internal", Space.of(web))
    for freed in (routes.unmap_route("web.apps.internal", web), routes.unmap_route("other.apps.internal")):
        with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
            await freed
    await routes.unmap_route("web.apps.internal", web, writer=OPERATOR)
    await routes.unmap_route("web.apps.internal", writer=OPERATOR)
    await routes.unmap_route("other.apps.internal", writer=OPERATOR)
    assert not routes.routes()


async def test_an_operator_removes_a_cell_that_is_gone(cell: Opened, etcd: Etcd) -> None:
    store = cell.store
    record = CellRecord("cell-2", "id-2", IPv4Network("10.255.9.0/24"), IPv4Address("192.0.2.9"), "0.1.0")
    told = f'{{"id": "id-2", "subnet": "{record.subnet}", "underlay": "{record.underlay}", "version": "0.1.0"}}'
    etcd.ctl("--user", f"operator:{SECRET}", "put", "/cellnet/v1/claims/subnets/10.255.9.0",
            '{"cell": "id-2", "name": "cell-2", "prefix": 24, "released": null}')  # fmt: skip
    etcd.ctl("--user", f"operator:{SECRET}", "put", "/cellnet/v1/cells/cell-2/record", told)
    async with asyncio.timeout(20):
        while record not in [each.record for each in await store.cells()]:  # noqa: ASYNC110 -- nothing reports it
            await asyncio.sleep(0.01)
    with pytest.raises(HostRefused):
        await store.remove_cell("cell-2", now=1.0)
    await store.remove_cell("cell-2", now=1.0, writer=OPERATOR)
    assert record not in [each.record for each in await store.cells()]


async def test_a_rotation_that_makes_no_sense_is_none_and_named(cell: Opened, etcd: Etcd) -> None:
    store, who = cell.store, ("--user", f"operator:{SECRET}")
    await store.set_rotation(Rotation("ab" * 32, frozenset()), trust=b"PEM", writer=OPERATOR)
    assert await store.rotation() == Rotation("ab" * 32, frozenset())
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.set_rotation(None, trust=b"PEM")
    etcd.ctl(*who, "put", "/cellnet/v1/ca/rotation", '{"root": "ab", "former": []}')
    async with asyncio.timeout(20):
        while not store.malformed:  # noqa: ASYNC110 -- nothing reports it
            await asyncio.sleep(0.01)
    assert await store.rotation() is None
    assert "root: String should match pattern" in store.malformed["/cellnet/v1/ca/rotation"]
    await store.set_rotation(None, trust=b"PEM", writer=OPERATOR)
    assert not store.malformed


async def test_no_credentials_are_kept_or_reported(cell: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    before = {id(each) for each in clients()}
    with structlog.testing.capture_logs() as logged:
        await cell.store.apply_policies([POLICY], writer=OPERATOR)
        with pytest.raises(HostRefused) as refused:
            await cell.store.set_trust(b"x", writer=replace(OPERATOR, username="nobody"))
    kept = b"".join(path.read_bytes() for path in cell.database.parent.iterdir())
    assert POLICY.name.encode() in kept
    assert SECRET.encode() not in kept
    printed = capfd.readouterr()
    assert SECRET not in f"{logged}{refused.value.what}{refused.value.hint}{OPERATOR!r}{printed.out}{printed.err}"
    del refused
    gc.collect()
    assert not [each for each in clients() if id(each) not in before]


def clients() -> list[object]:
    """All that are in memory, with what they have been given."""
    return [each for each in gc.get_objects() if isinstance(each, OperatorAccess | EtcdClient)]


async def test_an_operator_unknown_to_etcd_is_refused_in_words(cell: Opened) -> None:
    for wrong in (replace(OPERATOR, password="wrong"), replace(OPERATOR, username="nobody")):
        with pytest.raises(HostRefused, match=f"etcd refuses '{wrong.username}'"):
            await cell.store.apply_policies([POLICY], writer=wrong)
    assert await cell.store.policies() == ()


async def test_what_was_started_meanwhile_and_goes_on_writes_as_the_cell(cell: Opened) -> None:
    go, store = asyncio.Event(), cell.store

    async def late() -> None:
        await go.wait()
        await store.apply_policies([POLICY])

    task = asyncio.get_running_loop().create_task(late())
    await store.apply_policies([OTHER], writer=OPERATOR)
    go.set()
    with pytest.raises(HostRefused, match="'cell-1'"):
        await task


async def test_others_write_as_the_cell_while_an_operator_acts(cell: Opened) -> None:
    acting = asyncio.get_running_loop().create_task(cell.store.apply_policies([OTHER], writer=OPERATOR))
    with pytest.raises(HostRefused, match="'cell-1'"):
        await cell.store.apply_policies([POLICY])
    await acting
    assert await cell.store.policies() == (OTHER,)


async def test_a_certificate_can_be_the_operator(certificate_etcd: Etcd, tmp_path: Path) -> None:
    certify(tmp_path, "operator", issuer="ca")
    for command in (("role", "add", "operator"), ("user", "add", "operator:x"), ("user", "grant-role", "operator", "operator"),
                    ("role", "grant-permission", "operator", "--prefix=true", "readwrite", "/cellnet/v1/")):  # fmt: skip
        certificate_etcd.ctl(*command)
    pair = StoreCredentials(cert=(tmp_path / "operator.crt").read_text(), key=(tmp_path / "operator.key").read_text())
    etcd = replace(certificate_etcd.config, cert=tmp_path / "cell-1.crt", key=tmp_path / "cell-1.key")
    client = EtcdClient(etcd)
    write = put("/cellnet/v1/policies/a", b"{}")
    with pytest.raises(HostRefused):
        await client.commit(do=[write])
    async with client_of(pair, cell=client) as operator:
        assert await operator.commit(do=[write])
    await client.close()


async def test_without_tls_nothing_is_sent() -> None:
    plain = Config(endpoints=(EtcdEndpoint("127.0.0.1", 2379, tls=True), EtcdEndpoint("127.0.0.1", 2380, tls=False)))
    client = EtcdClient(plain)
    with pytest.raises(InvalidInput, match="without TLS"):
        async with client_of(OPERATOR, cell=client):
            raise AssertionError
    await client.close()


async def test_an_outage_is_reported_as_such(cell: Opened, etcd: Etcd) -> None:
    etcd.kill()
    with pytest.raises(Unavailable):
        await cell.store.apply_policies([POLICY], writer=OPERATOR)
    etcd.start()


async def test_a_cells_own_file_takes_none(tmp_path: Path, root: Path) -> None:
    config = load(tmp_path / "none.yaml", root=root, hostname="cell-1")
    config.paths.database.parent.mkdir(parents=True)
    async with contextlib.AsyncExitStack() as stack:
        database = Database(config.paths.database)
        stack.callback(database.close)
        made = open_storage(config, database, stack)
        for change in (
            made.policies.apply_policies([POLICY], writer=OPERATOR),
            made.policies.delete_policy(POLICY.name, writer=OPERATOR),
            made.policies.accept_loss(writer=OPERATOR),
            made.trust.set_trust(b"PEM", writer=OPERATOR),
            made.cells.remove_cell("cell-1", now=1.0, writer=OPERATOR),
            made.routes.map_route("web.apps.internal", AppName("acme", "shop", "web"), writer=OPERATOR),
            made.routes.unmap_route("web.apps.internal", writer=OPERATOR),
        ):
            with pytest.raises(InvalidInput, match="asks for no credentials"):
                await change
        await made.policies.apply_policies([POLICY])
