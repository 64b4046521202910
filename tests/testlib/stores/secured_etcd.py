"""An etcd that wants TLS and users, with the users and roles that the documents make."""

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from tests.testlib.documents import blocks, commands
from tests.testlib.stores.etcd import LOOPBACK, Etcd

ROOT_USER = ("--user", "root:secret")
SECRET = "correct-horse-battery"  # the operator's password


def rights() -> tuple[list[str], ...]:
    """The commands of docs/store.md that give a cell its rights, and those that let it change policies."""
    return tuple(map(_words, blocks("docs/store.md", test="tests/store/etcd/test_rights.py")))


def _words(block: str) -> list[str]:
    return [command.removeprefix("etcdctl ") for command in commands(block)]


def secured(folder: Path, *, ask: bool, netns: Path | None = None, address: IPv4Address = LOOPBACK) -> Iterator[Etcd]:
    """With the users and roles of docs/store.md; `ask`: it takes users from certificates."""
    certify(folder, "ca")
    for name in ("server", "root", "cell-1"):
        certify(folder, name, issuer="ca", address=address)
    etcd = Etcd(folder / "etcd", certificates=folder, ask=ask, netns=netns, address=address)
    etcd.start()
    etcd.ctl("user", "add", "root:secret")
    etcd.ctl("user", "grant-role", "root", "root")
    for command in rights()[0]:
        etcd.ctl(*command.split())
    etcd.ctl("auth", "enable")
    yield etcd
    etcd.kill()


def add_operator(etcd: Etcd) -> None:
    """The user `operator`, with SECRET, as docs/cells.md makes it."""
    (block,) = blocks("docs/cells.md", test="tests/store/etcd/test_operator.py")
    for command in _words(block):
        etcd.ctl(*ROOT_USER, *command.replace("SECRET", SECRET).split())


def certify(folder: Path, name: str, *, issuer: str | None = None, address: IPv4Address = LOOPBACK) -> None:
    """A key and a certificate for an address or, as a user, for the name."""
    signed = ["-CA", f"{folder}/{issuer}.crt", "-CAkey", f"{folder}/{issuer}.key"] if issuer else []
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{address}", *signed,
         "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
