"""The folder of trusted roots as OpenSSL reads it, and as a program reads it that looks while it is changed."""

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from agent.errors import HostRefused
from agent.identity.trust_folder import TrustFolder
from ca.pem import chain_bytes
from ca.subject_hash import subject_hash
from tests.testlib.certificates import Ca, identity, make_ca, named_root

OLD, NEW = make_ca(), make_ca()  # of one subject, as roots of one trust domain are
OTHER = named_root(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other")]))
HASHED, ANOTHER = f"{subject_hash(OLD.root.certificate)}.0", f"{subject_hash(OTHER)}.0"


def bundle(*cas: Ca) -> bytes:
    return b"".join(ca.root.bundle() for ca in cas)


def names(folder: TrustFolder) -> set[str]:
    return set(os.listdir(folder.path))


def verifies(folder: TrustFolder, ca: Ca) -> bool:
    """Whether OpenSSL finds the root of a leaf's chain in the folder."""
    leaf = folder.path.with_name("leaf.crt")
    leaf.write_bytes(ca.leaf(identity()).chain)
    argv = ["openssl", "verify", "-no-CAfile", "-no-CAstore", "-CApath", str(folder.path)]
    done = subprocess.run([*argv, "-untrusted", str(leaf), str(leaf)], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> TrustFolder:
    return TrustFolder(tmp_path / "trust")


def test_openssl_finds_each_root_of_one_subject_and_a_root_that_goes_leaves_nothing(folder: TrustFolder) -> None:
    for trusted in ((OLD,), (OLD, NEW), (NEW,)):
        folder.put(bundle(*trusted))
        assert [verifies(folder, ca) for ca in (OLD, NEW)] == [ca in trusted for ca in (OLD, NEW)]
        assert folder.bundle.read_bytes() == bundle(*trusted)
        assert names(folder) == {"ca.crt", HASHED}


def test_a_subject_that_goes_takes_its_file_with_it(folder: TrustFolder) -> None:
    folder.put(bundle(OLD) + chain_bytes((OTHER,)))
    assert names(folder) == {"ca.crt", HASHED, ANOTHER}
    (folder.path / ".ca.crt.new").write_bytes(b"what a crash left")
    folder.put(bundle(OLD))
    assert names(folder) == {"ca.crt", HASHED}


def test_all_users_may_read_and_what_is_there_is_not_written_again(folder: TrustFolder) -> None:
    old = os.umask(0o077)
    try:
        folder.put(bundle(OLD))
    finally:
        os.umask(old)
    paths = [folder.path, folder.bundle, folder.path / HASHED]
    before = [path.stat() for path in paths]
    assert [stat.S_IMODE(each.st_mode) for each in before] == [0o755, 0o644, 0o644]
    folder.put(bundle(OLD))
    assert [path.stat().st_ino for path in paths] == [each.st_ino for each in before]
    folder.put(bundle(NEW))
    assert folder.path.stat().st_ino == before[0].st_ino, "it may be mounted into a container"


def test_a_reader_sees_whole_files_and_never_a_moment_without_the_root_that_stays(folder: TrustFolder) -> None:
    one = bundle(OLD)
    more = bundle(OLD, NEW) + chain_bytes((OTHER,))
    known = {"ca.crt": (one, more), HASHED: (one, bundle(OLD, NEW))}
    wrong: list[bytes] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for name, whole in known.items():
                seen = (folder.path / name).read_bytes()
                wrong.extend([seen] if seen not in whole else [])

    folder.put(one)
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        folder.put(more)
        folder.put(one)
    stop.set()
    reader.join()
    assert wrong == []


def test_what_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HostRefused, match="cannot write"):
        TrustFolder(tmp_path / "file" / "trust").put(bundle(OLD))
