"""An etcd that wants TLS and users: the commands of docs/store.md give a cell what it needs, and nothing more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.etcd import Etcd as Config
from agent.errors import HostRefused, Unavailable
from agent.model.names import Space
from agent.store.etcd.client import EtcdClient, put, remove
from agent.store.etcd.store import EtcdStore
from agent.store.protocols import StoredPolicy
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import Etcd, secret_file
from tests.testlib.stores.secured_etcd import ROOT_USER, certify, rights, secured
from tests.testlib.stores.shared import cell, endpoint, runs

NOW = 1_700_000_000.0
Make = Callable[[Config], EtcdStore]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd with TLS and authentication, with the users and roles of the document."""
    yield from secured(tmp_path, ask=False)


@pytest.fixture
def by_password(own: Etcd, tmp_path: Path) -> Config:
    return replace(own.config, username="cell-1", password_file=secret_file(tmp_path / "password", "SECRET\n"))


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    async with contextlib.AsyncExitStack() as stack:

        def opened(config: Config) -> EtcdStore:
            client = EtcdClient(config, seconds=1.0)
            stack.push_async_callback(client.close)
            store = EtcdStore(client, prefix="/cellnet", cell="cell-1")
            stack.callback(asyncio.get_running_loop().create_task(store.run()).cancel)
            return store

        yield opened


async def test_a_cells_role_is_enough_for_a_cell(by_password: Config, make: Make) -> None:
    store = make(by_password)
    first = await cell(store, "cell-1")
    await store.publish([endpoint(first, "web")])
    await runs(store, endpoint(first, "web"))
    await store.publish([])
    await runs(store)
    assert [each.record for each in await store.cells()] == [first]
    await store.publish_policies(b"some")
    await eventually_async(lambda: store.published_policies() == {"cell-1": b"some"})
    await store.refer([app("web")])
    assert await store.claim_tags([app("web")], now=NOW) == {app("web"): 1}
    await store.release_tags([app("web")], now=NOW)
    await store.names.routes.claim_route("web.apps.internal", Space.of(app("web")))
    await store.names.routes.claim_names({"web.local": app("web")})
    assert await store.names.indexes.claim_index(app("web"), name="web", wanted=None, avoid=()) == 0
    await store.names.indexes.release_index(app("web"), 0, name="web")


async def test_a_cells_role_lets_it_ask_any_cell_and_answer_for_itself_alone(by_password: Config, make: Make) -> None:
    store = make(by_password)
    await cell(store, "cell-1")
    await store.questions.ask("cell-2", b"how?")
    client = EtcdClient(by_password, seconds=1.0)
    made_up = "/cellnet/explain/v1/questions/cell-1/made-up"
    await client.commit(do=[put(made_up, b"before")])
    await store.questions.ask("cell-1", b"and you?")
    asked = store.questions.questions()
    assert await anext(asked) == ("cell-1", b"and you?")
    await client.commit(do=[put(made_up, b"meanwhile")])
    await store.questions.ask("cell-1", b"again?")
    assert await anext(asked) == ("cell-1", b"again?")
    await store.questions.answer("cell-1", b"well")
    assert await store.questions.answer_of("cell-1") == b"well"
    assert await store.questions.answer_of("cell-2") is None
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await client.commit(do=[put("/cellnet/explain/v1/answers/cell-2/cell-1", b"forged")])
    await client.close()


async def test_a_cells_role_can_write_neither_policies_nor_routes_nor_another_cells_records(
    by_password: Config, make: Make
) -> None:
    store = make(by_password)
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.apply_policies([StoredPolicy("a", "1")])
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.apply_policies([StoredPolicy(f"p{number}", "1") for number in range(200)])
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.accept_loss()
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.names.routes.map_route("web.apps.internal", app("web"))
    await store.names.routes.claim_route("web.apps.internal", Space.of(app("web")))
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.names.routes.unmap_route("web.apps.internal")
    assert await store.policies() == ()
    with pytest.raises(HostRefused):
        await store.set_trust(b"PEM")
    client = EtcdClient(by_password)
    others = ("cells/cell-2/apps", "cells/cell-2/policies", "cells/cell-2/record", "cells/cell-2/alive", "cells/cell-11/record",
              "endpoints/cell-2/web")  # fmt: skip
    for key in (*others, "policies/a", "routes/internal/apps/web", "ca/trust", "ca/rotation", "elsewhere"):
        with pytest.raises(HostRefused):
            await client.commit(do=[put(f"/cellnet/v1/{key}", b"[]")])
        with pytest.raises(HostRefused):
            await client.commit(do=[remove(f"/cellnet/v1/{key}")])
    await client.close()


async def test_a_cell_can_neither_remove_another_nor_end_its_lease(own: Etcd, by_password: Config, make: Make) -> None:
    lease = own.ctl(*ROOT_USER, "lease", "grant", "600").split()[1]
    own.ctl(*ROOT_USER, "put", "--lease", lease, "/cellnet/v1/cells/cell-2/alive", '{"since": 1}')
    own.ctl(*ROOT_USER, "put", "/cellnet/v1/cells/cell-3/record", "nonsense")
    store = make(by_password)
    await store.claim_tags([app("web")], now=NOW)
    with pytest.raises(HostRefused, match="etcd does not let 'cell-1' do this"):
        await store.remove_cell("cell-3", now=NOW)
    client = EtcdClient(by_password)
    with pytest.raises(HostRefused):
        await client.revoke(int(lease, 16))
    await client.close()


async def test_a_renamed_host_works_and_the_old_record_that_its_role_cannot_reach_is_named(
    own: Etcd, by_password: Config, make: Make
) -> None:
    old, record = "/cellnet/v1/cells/before", '{"id":"machine","subnet":"10.255.1.0/24","underlay":"192.0.2.9","version":"0.1"}'
    own.ctl(*ROOT_USER, "put", f"{old}/record", record)
    own.ctl(*ROOT_USER, "put", "/cellnet/v1/claims/subnets/10.255.1.0", '{"cell":"machine","name":"before","prefix":24}')
    store = make(by_password)
    first = await cell(store, "cell-1", id="machine")
    assert str(first.subnet) == "10.255.1.0/24"
    assert [each.record for each in await store.cells()] == [first]
    assert "is claimed by cell cell-1, not by it" in store.malformed[f"{old}/record"]
    operator = make(replace(by_password, username="root", password_file=secret(own.folder)))
    await operator.claim_tags([app("web")], now=NOW)
    await operator.remove_cell("before", now=NOW)
    await eventually_async(lambda: not store.malformed)
    assert [each.record for each in await store.cells()] == [first]


def secret(folder: Path) -> Path:
    """The password of etcd's root."""
    return secret_file(folder / "root-password", "secret")


async def test_with_the_second_role_policies_can_be_applied_and_routes_mapped(
    own: Etcd, by_password: Config, make: Make
) -> None:
    for command in rights()[1]:
        own.ctl(*ROOT_USER, *command.split())
    store = make(by_password)
    await store.apply_policies([StoredPolicy("a", "1")])
    assert [policy.name for policy in await store.policies()] == ["a"]
    await store.names.routes.map_route("web.apps.internal", app("web"))
    await store.names.routes.unmap_route("web.apps.internal")
    assert not store.names.routes.routes()


async def test_a_certificate_can_be_the_user(certificate_etcd: Etcd, make: Make, tmp_path: Path) -> None:
    store = make(replace(certificate_etcd.config, cert=tmp_path / "cell-1.crt", key=tmp_path / "cell-1.key"))
    assert await store.claim_tags([app("web")], now=NOW) == {app("web"): 1}


async def test_a_token_that_etcd_has_forgotten_is_replaced(own: Etcd, by_password: Config, make: Make) -> None:
    store = make(by_password)
    await store.claim_tags([app("web")], now=NOW)
    own.kill()
    own.start()
    for _ in range(500):
        with contextlib.suppress(Unavailable):
            assert (await store.claim_tags([app("api")], now=NOW))[app("api")] == 2
            return
        await asyncio.sleep(0.02)
    raise AssertionError("never again")


@pytest.mark.parametrize("wrong", ["password", "ca", "user"])
async def test_an_unknown_user_is_refused_in_words(by_password: Config, make: Make, tmp_path: Path, wrong: str) -> None:
    certify(tmp_path, "other")
    configs = {
        "password": replace(by_password, password_file=secret_file(tmp_path / "wrong", "WRONG")),
        "ca": replace(by_password, ca=tmp_path / "other.crt"),
        "user": replace(by_password, username=None, password_file=None),
    }
    store = make(configs[wrong])
    with pytest.raises(HostRefused if wrong != "ca" else Unavailable, match="etcd"):
        await store.claim_tags([app("web")], now=NOW)


async def test_a_file_that_cannot_be_read_is_named(by_password: Config, make: Make, tmp_path: Path) -> None:
    store = make(replace(by_password, ca=tmp_path / "none.crt"))
    with pytest.raises(HostRefused, match=r"none\.crt: No such file"):
        await store.claim_tags([app("web")], now=NOW)
