"""Sweeping what has lost its owner: never another's, never in a busy loop, never stopped by a full disk."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from agent.attach.owners import OwnerExits
from agent.errors import HostRefused
from agent.model.attachment import Attachment, AttachRequest
from agent.model.owner import ProcessOwner
from agent.policy.tags_in_use import TagsInUse
from agent.store.ledger import Ledger
from host import process
from tests.testlib.beds.attach import Obliging, attaching
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.patience import eventually_async
from tests.testlib.samples import app, request


def owner(pid: int, *, started: int | None = None) -> ProcessOwner:
    return ProcessOwner(pid, process.start_time(pid) if started is None else started, process.boot_id())  # type: ignore[arg-type]


def held(ledger: Ledger, name: str, *, by: ProcessOwner, of: str = "web") -> Attachment:
    asked: AttachRequest = request(name, of=of)
    ledger.begin(asked, owner=by)
    return ledger.complete(name)


async def test_a_name_that_another_attachment_has_by_now_is_left_alone(tmp_path: Path, ledger: Ledger) -> None:
    loop = Obliging()
    subject = attaching(tmp_path, ledger, loop)
    for name in ("a", "web"):
        held(ledger, name, by=owner(os.getpid(), started=1), of=name)
    loop.gate.clear()
    sweep = asyncio.ensure_future(subject.sweep())
    await eventually_async(lambda: loop.turns == 2)  # both are being detached, and wait for a turn
    loop.gate.set()
    await sweep
    held(ledger, "web", by=owner(os.getpid()), of="web")
    await subject.sweep()
    assert [each.name for each in ledger.all()] == ["web"]


async def test_the_dead_are_detached_together(tmp_path: Path, ledger: Ledger) -> None:
    loop = Obliging()
    subject = attaching(tmp_path, ledger, loop)
    for number in range(5):
        held(ledger, f"web-{number}", by=owner(os.getpid(), started=1))
    loop.gate.clear()
    sweep = asyncio.ensure_future(subject.sweep())
    await eventually_async(lambda: loop.turns == 5)  # all five wait for the same one
    loop.gate.set()
    await sweep
    assert ledger.all() == ()


async def test_what_an_undo_has_left_half_attached_is_swept(tmp_path: Path, ledger: Ledger) -> None:
    ledger.begin(request("web"), owner=owner(os.getpid()))
    await attaching(tmp_path, ledger, Obliging()).sweep()
    assert ledger.all() == ()


async def test_a_full_disk_keeps_no_ended_container_reachable(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Obliging()
    subject = attaching(tmp_path, ledger, loop)
    held(ledger, "web", by=owner(os.getpid(), started=1))

    def full(*_words: object, **_options: object) -> None:
        raise HostRefused("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "begin_detach", full)
        await subject.sweep()
        assert loop.turns == 1
        assert subject.present() == ()
    await subject.sweep()
    assert ledger.all() == ()


def pid_of_the_past() -> int:
    with subprocess.Popen(["true"]) as ended:
        return ended.pid


async def test_the_end_of_an_owner_is_reported_once() -> None:
    event = asyncio.Event()
    ends = OwnerExits(event)
    dead = owner(pid_of_the_past(), started=1)
    for expected in (True, False, False):
        event.clear()
        ends.watch({dead})
        assert event.is_set() is expected
    ends.close()


async def test_a_store_that_cannot_be_written_stops_no_revoke(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    tagging = TagsInUse(store, earliest=time.time, latest=time.time)
    await store.claim_tags([app("web")], now=0)

    async def full(*_words: object, **_options: object) -> None:
        raise HostRefused("disk full")

    monkeypatch.setattr(store, "release_tags", full)
    assert await tagging.follow((), ()) == {app("web"): 1}
    assert tagging.problem is not None
