"""Leaves on a real tmpfs: written, read again after a restart, damaged, swept."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import HostRefused, InvalidInput
from agent.identity.keyring import Keyring, on_tmpfs
from agent.identity.leaf import issue
from agent.model.key_owner import KeyOwner
from dataplane.state import Leaf
from host import syscalls
from tests.testlib.certificates import TODAY, identity, make_ca
from tests.testlib.disks import outside_memory

pytestmark = pytest.mark.release

CA = make_ca()


def new_leaf() -> Leaf:
    return issue(CA.cell, identity=identity(), now=TODAY, lifetime=timedelta(days=1))


WEB, API = new_leaf(), new_leaf()


def fill(directory: Path) -> Path:
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def mounts_below(path: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4].startswith(f"{path}/")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with outside_memory(tmp_path) as found:
        yield found


@pytest.fixture
def ring(disk: Path) -> Iterator[Keyring]:
    ring = Keyring(disk / "run" / "identity")
    ring.open()
    yield ring
    for _ in mounts_below(disk):
        syscalls.umount(str(ring.directory))
    assert not mounts_below(disk)


def test_a_directory_on_disk_gets_a_tmpfs_once(ring: Keyring, disk: Path) -> None:
    ring.put("web", WEB)
    ring.open()
    (line,) = mounts_below(disk)
    assert " - tmpfs cellnet-identity " in line
    assert {"nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))
    assert stat.S_IMODE(ring.directory.stat().st_mode) == 0o755
    assert on_tmpfs(ring.directory)
    assert not on_tmpfs(disk)
    assert ring.load({}) == {"web": WEB}


def test_a_directory_below_a_tmpfs_gets_none_of_its_own(ring: Keyring, disk: Path) -> None:
    below = Keyring(ring.directory / "deeper" / "identity")
    below.open()
    assert len(mounts_below(disk)) == 1


def test_a_new_keyring_reads_the_same_bytes(ring: Keyring) -> None:
    ring.put("web", WEB)
    ring.put("api", API)
    again = Keyring(ring.directory)
    again.open()
    assert again.load({}) == {"web": WEB, "api": API}
    assert again.load({})["web"].fingerprint() == WEB.fingerprint()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_keys_are_for_root_and_certificates_for_all_users(ring: Keyring, umask: int) -> None:
    old = os.umask(umask)
    try:
        ring.put("web", WEB)
        ring.trust.put(CA.root.bundle())
    finally:
        os.umask(old)
    paths = (ring.key_of("web"), ring.chain_of("web"), ring.trust.bundle, ring.chain_of("web").parent)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o644, 0o644, 0o755]
    assert ring.trust.bundle.read_bytes() == CA.root.bundle()


@pytest.mark.parametrize(("owner", "mode", "gid"), [(KeyOwner(1234), 0o600, 0), (KeyOwner(1234, 4321), 0o640, 4321)])
def test_a_key_is_for_its_owner_and_for_a_group_that_is_named(ring: Keyring, owner: KeyOwner, mode: int, gid: int) -> None:
    ring.put("web", WEB, owner=owner)
    found = ring.key_of("web").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, gid, mode)
    assert ring.chain_of("web").stat().st_uid == 0
    assert ring.load({"web": owner}) == {"web": WEB}
    assert ring.load({}) == {}, "one that another user may read is issued anew"
    ring.put("web", API, owner=owner)
    assert ring.load({"web": owner}) == {"web": API}
    ring.key_of("web").chmod(0o400)
    assert ring.load({"web": owner}) == {"web": API}
    ring.key_of("web").chmod(0o644)
    assert ring.load({"web": owner}) == {}


def test_a_folder_that_a_container_has_mounted_stays_the_same_one(ring: Keyring) -> None:
    ring.put("web", WEB)
    inode = ring.chain_of("web").parent.stat().st_ino
    ring.key_of("web").write_bytes(b"its owner may write it")
    ring.put("web", API)
    assert ring.chain_of("web").parent.stat().st_ino == inode
    assert ring.load({}) == {"web": API}


def test_the_same_leaf_is_not_written_twice(ring: Keyring) -> None:
    ring.put("web", WEB)
    ring.trust.put(CA.root.bundle())
    before = [path.stat().st_ino for path in (ring.key_of("web"), ring.chain_of("web"), ring.trust.bundle)]
    ring.put("web", WEB)
    ring.trust.put(CA.root.bundle())
    assert [path.stat().st_ino for path in (ring.key_of("web"), ring.chain_of("web"), ring.trust.bundle)] == before
    ring.put("web", API)
    assert ring.load({}) == {"web": API}


def test_a_container_that_holds_the_old_file_keeps_a_whole_one(ring: Keyring) -> None:
    ring.put("web", WEB)
    with ring.chain_of("web").open("rb") as held:
        ring.put("web", API)
        assert held.read() == WEB.chain


@pytest.mark.parametrize(
    "damage", ["no key", "no chain", "other key", "cut key", "empty chain", "open key", "key is a directory"]
)
def test_a_damaged_leaf_is_left_out_and_can_be_put_again(ring: Keyring, damage: str) -> None:
    ring.put("web", WEB)
    ring.put("api", API)
    key, chain = ring.key_of("web"), ring.chain_of("web")
    match damage:
        case "no key":
            key.unlink()
        case "no chain":
            chain.unlink()
        case "other key":
            key.write_bytes(API.key)
        case "cut key":
            key.write_bytes(WEB.key[:50])
        case "empty chain":
            chain.write_bytes(b"")
        case "open key":
            key.chmod(0o644)
        case "key is a directory":
            key.unlink()
            key.mkdir()
    assert ring.load({}) == {"api": API}
    ring.put("web", WEB)
    assert ring.load({}) == {"web": WEB, "api": API}
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_drop_takes_everything_of_one_and_is_fine_twice(ring: Keyring) -> None:
    ring.put("web", WEB)
    ring.put("api", API)
    (ring.chain_of("web").parent / ".instance.key.new").write_bytes(b"what a crash left")
    ring.drop("web")
    ring.drop("web")
    assert ring.load({}) == {"api": API}
    assert not ring.chain_of("web").parent.exists()


def test_sweep_takes_unknown_leaves_and_keeps_the_trust_bundle(ring: Keyring, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("web", "api", "old"):
        ring.put(name, WEB)
    ring.trust.put(CA.root.bundle())
    (ring.directory / "link").symlink_to(elsewhere)
    assert ring.sweep({"web", "new"}) == ("api", "old")
    assert set(ring.load({})) == {"web"}
    assert ring.trust.bundle.read_bytes() == CA.root.bundle()
    assert elsewhere.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../web", "a/b", ".web", "_trust", "a\0b"])
def test_a_name_that_is_no_plain_directory_is_refused(ring: Keyring, name: str) -> None:
    for call in (ring.drop, ring.key_of, lambda name: ring.put(name, WEB)):
        with pytest.raises(InvalidInput, match="cannot name a directory"):
            call(name)


def test_a_full_tmpfs_is_reported_and_the_old_leaf_stays(ring: Keyring) -> None:
    ring.put("web", WEB)
    filler = fill(ring.directory)
    with pytest.raises(HostRefused, match="No space left"):
        ring.put("web", API)
    assert ring.load({}) == {"web": WEB}
    assert sorted(os.listdir(ring.directory / "web")) == ["instance.crt", "instance.key"]
    filler.unlink()
    ring.put("web", API)
    assert ring.load({}) == {"web": API}


def test_a_keyring_that_was_never_opened_is_empty(tmp_path: Path) -> None:
    assert Keyring(tmp_path / "absent").load({}) == {}


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HostRefused, match="cannot keep keys in memory"):
        Keyring(tmp_path / "file" / "identity").open()
