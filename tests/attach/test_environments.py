"""An app's variables for the others: by policies, by scopes whose apps are known, and by what an attach asks for."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.attach.container_files import ContainerFiles
from agent.store.ledger import Ledger
from agent.store.protocols import StoredPolicy
from agent.store.tags import REST
from tests.testlib.beds.environment import container_files
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.samples import FIRST, WEB, app, attachment

PREFIX = "WARP_IST_"
DB = "db.shop.acme.cell.internal"


@dataclass
class Scene:
    """Files and environments of a cell, and the store behind them."""

    store: MemoryStore
    files: ContainerFiles

    async def allow(self, source: str, to: str) -> None:
        """A policy, and nothing that follows from it."""
        text = f"policies: [{{name: p, from: {source}, to: {to}, tcp: any}}]"
        await self.store.apply_policies([StoredPolicy("p", text)])

    async def services(self, *asked: str) -> dict[str, str]:
        """The service variables of an instance of acme/shop/web."""
        held = replace(attachment(WEB, address=FIRST), services=tuple(map(app, asked)))
        found = await self.files.environments.of(held)
        return {name: value for name, value in found.variables.items() if not name.startswith("CF_")}


@pytest.fixture
def scene(tmp_path: Path, ledger: Ledger) -> Scene:
    store = MemoryStore()
    return Scene(store, container_files(tmp_path, ledger, store=store, prefixes=[PREFIX], now=REST - 1))


async def test_an_instance_finds_its_own_address_index_id_and_files(tmp_path: Path, ledger: Ledger) -> None:
    held = attachment(WEB, address=FIRST, instance=3)
    environment = await container_files(tmp_path, ledger).environments.of(held)
    assert dict(environment.variables) == {
        "CF_INSTANCE_INTERNAL_IP": str(FIRST),
        "CF_INSTANCE_INDEX": "3",
        "CF_INSTANCE_GUID": held.guid,
        "CF_INSTANCE_CERT": f"{tmp_path}/keys/web/instance.crt",
        "CF_INSTANCE_KEY": f"{tmp_path}/keys/web/instance.key",
        "CF_INSTANCE_CA": f"{tmp_path}/keys/_trust/ca.crt",
        "CF_SYSTEM_CERT_PATH": f"{tmp_path}/keys/_trust",
    }
    assert environment.text.startswith(f"CF_INSTANCE_INTERNAL_IP={FIRST}\nCF_INSTANCE_INDEX=3\n")


async def test_an_app_that_a_policy_names_is_found_before_it_was_ever_there_and_until_the_policy_goes(scene: Scene) -> None:
    assert await scene.services() == {}
    await scene.allow("acme/shop/web", "acme/shop/db")
    assert await scene.services() == {"WARP_IST_db": DB}
    await scene.store.delete_policy("p")
    assert await scene.services() == {}


async def test_an_app_of_a_scope_is_found_once_it_is_known_and_while_it_is_down_for_less_than_a_week(scene: Scene) -> None:
    await scene.allow("same-space", "acme/shop/*")
    assert await scene.services() == {}
    await scene.store.claim_tags([app("db"), app("acme/blog/db")], now=0.0)
    assert await scene.services() == {"WARP_IST_db": DB}
    await scene.store.release_tags([app("db")], now=0.0)
    assert await scene.services() == {"WARP_IST_db": DB}


async def test_an_app_of_a_scope_that_has_been_gone_for_a_week_is_not_found(tmp_path: Path, ledger: Ledger) -> None:
    store = MemoryStore()
    later = Scene(store, container_files(tmp_path, ledger, store=store, prefixes=[PREFIX], now=REST))
    await later.allow("same-space", "acme/shop/*")
    await store.claim_tags([app("db")], now=0.0)
    await store.release_tags([app("db")], now=0.0)
    assert await later.services() == {}


async def test_what_an_attach_asks_for_is_found_whatever_the_policies_say(scene: Scene) -> None:
    expected = {"WARP_IST_db": DB, "WARP_IST_zeta_data_lake": "lake.data.zeta.cell.internal"}
    assert await scene.services("db", "zeta/data/lake") == expected


async def test_without_a_prefix_nothing_depends_on_policies(tmp_path: Path, ledger: Ledger) -> None:
    store = MemoryStore()
    plain = Scene(store, container_files(tmp_path, ledger, store=store))
    await plain.allow("acme/shop/web", "acme/shop/db")
    assert await plain.services("cache") == {}
    before = await plain.files.environments.basis()
    await plain.allow("acme/shop/web", "acme/shop/cache")
    assert await plain.files.environments.basis() is before


async def test_two_apps_of_one_name_are_warned_of(scene: Scene) -> None:
    await scene.allow("acme/*/*", "acme/*/*")
    await scene.store.claim_tags([app("acme/blog/db"), app("acme-blog-db")], now=0.0)
    found = await scene.files.environments.of(attachment(WEB, address=FIRST))
    assert found.variables["WARP_IST_acme_blog_db"] == "acme-blog-db.shop.acme.cell.internal"
    assert [each for each in found.warnings if "acme_blog_db" in each] == list(found.warnings) != []


async def test_a_service_that_is_probably_mistyped_is_warned_of_and_has_its_variable(scene: Scene) -> None:
    await scene.store.claim_tags([app("acme/data/lake")], now=0.0)
    held = replace(attachment(WEB, address=FIRST), services=tuple(map(app, ("acme/data/lke", "acme/data/lake", "cache"))))
    found = await scene.files.environments.of(held)
    assert found.warnings == ("nothing of acme/data/lke runs here or is named; did you mean acme/data/lake?",)
    assert found.variables["WARP_IST_acme_data_lke"] == "lke.data.acme.cell.internal"
    await scene.store.claim_tags([app("acme/data/lke")], now=0.0)
    assert (await scene.files.environments.of(held)).warnings == ()


async def test_without_a_prefix_a_service_that_is_asked_for_is_warned_of(tmp_path: Path, ledger: Ledger) -> None:
    environments = container_files(tmp_path, ledger).environments
    found = await environments.of(replace(attachment(WEB, address=FIRST), services=(app("db"), app("cache"))))
    assert found.warnings == (
        "there is no service variable for acme/shop/db, acme/shop/cache: agent.yaml has no `service_env_prefixes`",
    )
    assert (await environments.of(attachment(WEB, address=FIRST))).warnings == ()
