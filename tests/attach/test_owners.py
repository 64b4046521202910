"""Owners on the real /proc: a process by pid and start, a namespace by what is at its path."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.attach.owners import Owners
from agent.model.attachment import Attachment
from agent.model.owner import Owner, ProcessOwner
from agent.store.database import Database
from agent.store.ledger import Ledger
from host import namespace
from tests.testlib.netns import Netns
from tests.testlib.samples import FIRST, OWNER, WEB, attachment, request


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def owned(owner: Owner | None) -> Attachment:
    assert owner is not None
    return attachment(WEB, address=FIRST, owner=owner)


def of_process(pid: int) -> Owner | None:
    with Path("/proc/self/ns/net").open() as own:
        return Owners().of(own.fileno(), path=Path("/unused"), pid=pid)


def test_a_process_owns_until_it_ends(sleeper: "subprocess.Popen[bytes]") -> None:
    held = owned(of_process(sleeper.pid))
    assert Owners().live(held)
    sleeper.kill()
    sleeper.wait()
    assert not Owners().live(held)


def test_a_zombie_owns_nothing(sleeper: "subprocess.Popen[bytes]") -> None:
    held = owned(of_process(sleeper.pid))
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not Owners().live(held)


def test_another_process_with_the_pid_is_not_the_owner(sleeper: "subprocess.Popen[bytes]") -> None:
    owner = of_process(sleeper.pid)
    assert isinstance(owner, ProcessOwner)
    assert not Owners().live(owned(replace(owner, started=owner.started + 1)))


def test_no_owner_outlives_a_reboot(sleeper: "subprocess.Popen[bytes]") -> None:
    owner = of_process(sleeper.pid)
    assert owner is not None
    assert not Owners().live(owned(replace(owner, boot_id="another")))


def test_a_process_that_is_not_there_is_no_owner() -> None:
    assert of_process(2**22 - 1) is None


@pytest.fixture
def container(netns: Callable[[str], Netns]) -> Netns:
    return netns("c")


def of_namespace(container: Netns) -> Owner | None:
    descriptor = namespace.open_namespace(container.path)
    try:
        return Owners().of(descriptor, path=container.path, pid=None)
    finally:
        os.close(descriptor)


def test_a_namespace_owns_until_its_path_is_gone(container: Netns) -> None:
    held = owned(of_namespace(container))
    assert Owners().live(held)
    container.close()
    assert not Owners().live(held)


def test_a_namespace_without_its_path_owns_while_a_process_is_in_it(container: Netns) -> None:
    held = owned(of_namespace(container))
    inside = container.start("sleep", "600")
    try:
        while namespace.NamespaceId.of(Path(f"/proc/{inside.pid}/ns/net")) != namespace.NamespaceId.of(container.path):
            pass
        container.close()
        assert Owners().live(held)
    finally:
        inside.kill()
        inside.wait()
    assert not Owners().live(held)


def test_another_namespace_under_the_path_is_not_the_owner(container: Netns) -> None:
    held = owned(of_namespace(container))
    container.close()
    namespace.create(container.path)
    assert not Owners().live(held)


def test_a_path_that_only_the_callers_root_has_is_looked_up_there(container: Netns, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    inside = tmp_path / "run" / "pin"
    descriptor = namespace.open_namespace(container.path)
    namespace.pin(descriptor, inside)
    program = f"import os, time; os.chroot({str(tmp_path)!r}); print(flush=True); time.sleep(600)"
    jailed = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert jailed.stdout is not None
        jailed.stdout.readline()
        owners = Owners()
        held = owned(owners.of(descriptor, path=Path("/run/pin"), pid=None))
        assert not owners.live(held)
        root = os.open(f"/proc/{jailed.pid}/root", os.O_PATH)
        owners.keep_root("web", root)
        os.close(root)
        assert owners.live(held)
        owners.forget("web")
        assert not owners.live(held)
    finally:
        os.close(descriptor)
        jailed.kill()
        jailed.wait()
        namespace.unpin(inside)


def test_what_was_attached_before_the_last_boot_is_struck_out_or_left_to_the_sweep(tmp_path: Path) -> None:
    database = Database(tmp_path / "state" / "cellnet.db", patience=0)
    ledger = Ledger(database)
    ledger.adopt_subnet(IPv4Network("10.255.1.0/24"))
    old = ledger.begin(request("old"), owner=OWNER)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    Owners().strike_out_earlier_boots(ledger, now=1.0)
    assert ledger.all() == (old,)
    assert not Owners().live(old)
    other.execute("ROLLBACK")
    Owners().strike_out_earlier_boots(ledger, now=1.0)
    assert ledger.all() == ()
    database.close()
