"""An etcd that answers and takes nothing: the status knows without a change to be written; what was refused is tried again."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.model.policy import AppPolicy, Origin, Pattern, Ports
from agent.policy.tags_in_use import TagsInUse
from agent.store.etcd.heartbeat import Timing
from agent.store.etcd.store import EtcdStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app
from tests.testlib.stores.etcd import SmallEtcd
from tests.testlib.stores.secured_etcd import ROOT_USER, secured
from tests.testlib.stores.shared import NOW, EtcdCells, cell

WEB = app("web")
SOON = Timing(again=0.1, check=0.1, lease=1)


def reports(store: EtcdStore, words: str) -> Callable[[], bool]:
    return lambda: any(words in each.what for each in store.problems())


async def test_a_full_etcd_is_reported_though_nothing_is_to_be_written_and_tags_come_when_it_is_not(
    small: SmallEtcd, stack: contextlib.AsyncExitStack
) -> None:
    store = EtcdCells(small, stack, timing=SOON).store("one")
    await cell(store, "one")
    await eventually_async(lambda: store.problems() == ())
    small.fill()
    await eventually_async(reports(store, "etcd refuses to write"))
    tags = TagsInUse(store, earliest=lambda: NOW, latest=lambda: NOW)
    wanted = (AppPolicy("a", (), Pattern(WEB.org, WEB.space, WEB.app), tcp=(Ports(80, 80),), origin=Origin("file", 1, 1)),)
    pauses = list[float | None]()
    for _ in range(7):
        assert await tags.follow(wanted, []) == {}
        pauses.append(tags.wait())
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    small.make_room()
    await eventually_async(lambda: store.problems() == ())
    assert WEB in await tags.follow(wanted, [])
    assert tags.wait() is None


async def test_a_password_that_is_no_longer_right_is_reported_though_nothing_is_to_be_written(
    tmp_path: Path, stack: contextlib.AsyncExitStack
) -> None:
    with contextlib.contextmanager(secured)(tmp_path, ask=False) as etcd:
        (tmp_path / "password").touch(mode=0o600)
        (tmp_path / "password").write_text("SECRET")
        config = replace(etcd.config, username="cell-1", password_file=tmp_path / "password")
        cells = EtcdCells(etcd, stack, timing=SOON, prefix="/cellnet")
        store = cells.store("cell-1", etcd=config)
        await cell(store, "cell-1")
        await eventually_async(lambda: store.problems() == ())
        etcd.ctl(*ROOT_USER, "user", "delete", "cell-1")
        await eventually_async(reports(store, "etcd refuses 'cell-1'"))
