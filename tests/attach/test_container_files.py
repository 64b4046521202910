"""A container's files: there with its attachment, gone with it, and as the policies are meanwhile."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.attach.container_files import REST, ContainerFiles
from agent.errors import Conflict
from agent.model.attachment import Attachment
from agent.model.reservation import Reservation
from agent.store.ledger import Ledger
from agent.store.protocols import StoredPolicy
from tests.testlib.beds.environment import container_files
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import OWNER, app, request

OPENED = StoredPolicy("p", "policies: [{name: p, from: acme/shop/web, to: acme/shop/db, tcp: any}]")
SHOWN = "WARP_IST_db=db.shop.acme.cell.internal\n"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def files(tmp_path: Path, ledger: Ledger, store: MemoryStore) -> ContainerFiles:
    made = container_files(tmp_path, ledger, store=store, prefixes=["WARP_IST_"])
    store.changes.subscribe(made.look)
    return made


def attached(ledger: Ledger, name: str) -> Attachment:
    ledger.begin(request(name), owner=OWNER)
    return ledger.complete(name)


@contextlib.asynccontextmanager
async def running(files: ContainerFiles) -> AsyncIterator[None]:
    task = asyncio.ensure_future(files.run())
    try:
        yield
    finally:
        task.cancel()


def shows(path: Path, word: str) -> Callable[[], bool]:
    return lambda: path.exists() and word in path.read_text()


async def test_what_is_written_is_what_the_container_goes_by(files: ContainerFiles, ledger: Ledger) -> None:
    held = attached(ledger, "web")
    await files.write(held)
    paths = files.paths("web")
    assert paths.environment.read_text() == (await files.environments.of(held)).text
    assert paths.resolv_conf.read_text() == (
        "nameserver 169.254.0.2\nsearch shop.acme.cell.internal acme.cell.internal\noptions ndots:2 edns0\n"
    )
    assert {path.stat().st_mode & 0o777 for path in (paths.environment, paths.resolv_conf)} == {0o644}
    files.remove(held)
    files.remove(held)
    assert [path for path in (paths.environment, paths.resolv_conf) if path.exists()] == []


async def test_the_environments_file_follows_the_policies(files: ContainerFiles, ledger: Ledger, store: MemoryStore) -> None:
    await files.write(attached(ledger, "web"))
    path = files.paths("web").environment
    async with running(files):
        assert SHOWN not in path.read_text()
        await store.apply_policies([OPENED])
        await eventually_async(shows(path, SHOWN))
        await store.delete_policy("p")
        await eventually_async(lambda: SHOWN not in path.read_text())


async def test_a_change_that_no_environment_depends_on_costs_nothing(
    files: ContainerFiles, ledger: Ledger, store: MemoryStore
) -> None:
    attached(ledger, "web")
    path = files.paths("web").environment
    async with running(files):
        await store.apply_policies([OPENED])
        await eventually_async(shows(path, SHOWN))
        path.unlink()  # it would be there again after one more round
        store.changes.announce()
        await asyncio.sleep(3 * REST)
        assert not path.exists()
        await store.delete_policy("p")
        await eventually_async(path.exists)


async def test_a_start_makes_missing_files_and_removes_those_of_others(
    files: ContainerFiles, ledger: Ledger, tmp_path: Path
) -> None:
    attached(ledger, "web")
    for folder in ("env", "resolv"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "gone").write_text("of an earlier agent")
        (tmp_path / folder / "web").write_text("of an earlier version")
    async with running(files):
        await eventually_async(shows(files.paths("web").resolv_conf, "nameserver"))
        await eventually_async(shows(files.paths("web").environment, "CF_INSTANCE_GUID"))
        assert [os.listdir(tmp_path / folder) for folder in ("env", "resolv")] == [["web"], ["web"]]


async def test_what_cannot_be_written_is_a_problem_until_it_can(files: ContainerFiles, ledger: Ledger, tmp_path: Path) -> None:
    attached(ledger, "web")
    (tmp_path / "env").write_text("a file where the folder belongs")
    async with running(files):
        await eventually_async(lambda: bool(list(files.problems())))
        (problem,) = files.problems()
        assert problem.what.startswith(f"the files of 'web' are not up to date: cannot write {tmp_path}/env/web: ")
        (tmp_path / "env").unlink()
        await eventually_async(lambda: list(files.problems()) == [])
        assert files.paths("web").environment.exists()


async def test_a_namespace_of_ip_netns_has_one_for_as_long_as_it_is_attached(
    files: ContainerFiles, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "netns/red/resolv.conf"
    held = replace(attached(ledger, "web"), netns_name="red")
    await files.write(held)
    assert path.read_text().splitlines()[:2] == [
        "# of cellnet's attachment 'web', with which it goes",
        "nameserver 169.254.0.2",
    ]
    await files.write(held)
    files.remove(held)
    assert not path.parent.exists()


async def test_a_file_that_is_not_ours_is_neither_written_over_nor_removed(
    files: ContainerFiles, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "netns/red/resolv.conf"
    held = replace(attached(ledger, "web"), netns_name="red")
    path.parent.mkdir(parents=True)
    path.write_text("nameserver 192.0.2.53\n")
    with pytest.raises(Conflict, match=r"red/resolv.conf is there already, and not of 'web'"):
        await files.write(held)
    files.remove(held)
    assert path.read_text() == "nameserver 192.0.2.53\n"
    path.unlink()
    (path.parent / "hosts").touch()
    await files.write(held)
    files.remove(held)
    assert [each.name for each in path.parent.iterdir()] == ["hosts"]


async def test_what_is_on_its_way_out_gets_no_files_any_more(files: ContainerFiles, ledger: Ledger) -> None:
    held = attached(ledger, "web")
    ledger.begin_detach("web")
    await files.write(held)
    assert not files.paths("web").environment.exists()


async def test_those_of_a_reservation_are_there_before_its_container_and_after_it(
    files: ContainerFiles, ledger: Ledger, store: MemoryStore, tmp_path: Path
) -> None:
    made = ledger.reserve(Reservation("web", app("web")), instance=2, now=0.0)
    assert made.place is not None
    await files.prepare()
    paths = files.paths("web")
    wanted = f"CF_INSTANCE_INTERNAL_IP={made.place.address}\nCF_INSTANCE_INDEX=2\nCF_INSTANCE_GUID={made.place.guid}\n"
    assert paths.environment.read_text().startswith(wanted)
    assert "nameserver" in paths.resolv_conf.read_text()
    assert (tmp_path / "keys/web").is_dir()
    async with running(files):
        await store.apply_policies([OPENED])
        await eventually_async(shows(paths.environment, SHOWN))
        held = ledger.begin(replace(request("web"), app=app("web"), instance=2), owner=OWNER)
        ledger.complete("web")
        ledger.begin_detach("web")
        (tmp_path / "keys/web").rmdir()
        ledger.finish_detach("web", now=0.0)
        files.remove(held)
        assert (tmp_path / "keys/web").is_dir()
        assert paths.environment.exists()
    ledger.release("web", now=0.0)
    files.remove_reserved("web")
    assert not paths.environment.exists()
    assert not (tmp_path / "keys/web").exists()
