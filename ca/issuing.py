"""What the root's owner does for a cell: sign its intermediate, away from that cell, into a folder that is its `ca`.

The folder is made whole beside its place and then renamed: a copy of it has all three files, or there is none to copy.
"""

import shutil
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from ca import files
from ca.authority import Authority, issue_cell
from ca.disk import CELL_LIFETIME, load_root
from ca.errors import CaRefused
from ca.leaf import issue_leaf
from ca.names import Identity, is_dns_name, trust_domain_of
from ca.pem import chain_bytes, key_bytes
from ca.verify import verify
from host.durable import PUBLIC, SECRET

LONGEST_CELL = 63
TRIAL = IPv4Address("10.255.0.1")


def issue(
    directory: Path,
    *,
    cell: str,
    out: Path,
    now: datetime,
    lifetime: timedelta = CELL_LIFETIME,
    passphrase: bytes | None = None,
) -> Authority:
    """An intermediate for `cell` by the root in `directory`: `root.crt cell.crt cell.key` in `out`, made by this.

    Raises CaRefused: no root with its key there, a key under another `passphrase`, an expired root, one whose certificate lets
    no cell vouch for apps, a name that no cell can have, an `out` that holds something.
    """
    if not is_dns_name(cell) or len(cell) > LONGEST_CELL:
        raise CaRefused(f"'{cell}' cannot name a cell", hint="use a-z, 0-9, hyphens inside, dots between the parts, 63 at most")
    root = load_root(directory, now=now, passphrase=passphrase)
    trust_domain = trust_domain_of(root.certificate)
    if trust_domain is None:
        raise CaRefused(f"{directory / 'root.crt'} names no trust domain", hint="'cellnet ca init' makes a root that does")
    made = issue_cell(root, cell=cell, trust_domain=trust_domain, now=now, lifetime=lifetime)
    _try(made, trust_domain=trust_domain, now=now)
    _write(out, made)
    return made


def _try(cell: Authority, *, trust_domain: str, now: datetime) -> None:
    """What the root's certificate forbids (a path length, name constraints) would be found by the apps' peers, much later."""
    app = Identity(trust_domain, "org", "space", "app", address=TRIAL)
    leaf = issue_leaf(cell, identity=app, now=now, lifetime=timedelta(hours=1))
    try:
        verify(leaf.chain, cell.bundle(), now=now)
    except CaRefused as error:
        hint = "it needs room for one more CA below it and no name constraints"
        raise CaRefused(f"this root cannot vouch for a cell's apps: {error.what}", hint=hint) from error


def _write(out: Path, cell: Authority) -> None:
    _refuse_what_holds_something(out)
    made = out.with_name(f".{out.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    files.make_secret_directory(made)
    try:
        files.create(made / "root.crt", cell.bundle(), mode=PUBLIC)
        files.create(made / "cell.crt", chain_bytes(cell.below_root()), mode=PUBLIC)
        files.create(made / "cell.key", key_bytes(cell.key), mode=SECRET)
        files.rename(made, out.name)
    except CaRefused:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _refuse_what_holds_something(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise CaRefused(f"{out} is there and no folder", hint="name one that is to be made")
    if out.is_dir() and any(out.iterdir()):
        raise CaRefused(f"{out} holds something", hint="name a folder that is empty or is to be made")
