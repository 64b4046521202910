"""The authorities of one cell in a directory: `root.crt root.key cell.crt cell.key`. Made at first start, read ever after.

The root's key may live elsewhere; then the cell has what it was given (by `issue` of ca/issuing.py, there) until that expires.
With the root's key here, the cell's intermediate is renewed at half its life, with a new key.

What a crash leaves is finished by the next start (succession.py). `root.key` alone is there because it is written first: the
next start makes the certificate for it. A `root.key` that is encrypted signs only for commands that are given its passphrase;
for the agent it is elsewhere.

Anything else is damage that no crash of ours makes: it is reported, and nothing is changed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from ca import files, succession
from ca.authority import Authority, AuthorityChain, issue_cell, make_root, may_sign
from ca.certificate import Validity
from ca.errors import CaRefused
from ca.names import trust_domain_of
from ca.passphrase import is_encrypted
from ca.pem import LOCKED, certificates, fits, key_bytes, private_key
from host.durable import PUBLIC, SECRET

ROOT_LIFETIME = timedelta(days=3650)
CELL_LIFETIME = timedelta(days=90)
GIVEN = "copy cell.crt and cell.key here, as 'cellnet ca issue-cell' of the root's owner makes them"


@dataclass(frozen=True, slots=True)
class Authorities:
    """What a cell vouches with. `root` is None where its key lives off the cell, or under a passphrase."""

    cell: Authority
    root: Authority | None

    def bundle(self) -> bytes:
        """PEM of the root that peers must trust."""
        return self.cell.bundle()

    @property
    def renew_at(self) -> datetime | None:
        """When to call `load_or_create` again; None where only the root's owner can issue the next."""
        return None if self.root is None else _renew_at(self.cell)


@dataclass(frozen=True, slots=True)
class Certificates:
    """What has vouched for a cell's leaves, and can vouch for no other: its key cannot be used."""

    cell: AuthorityChain
    root: None = None
    renew_at: None = None

    def bundle(self) -> bytes:
        """PEM of the root that peers must trust."""
        return self.cell.bundle()


def init_root(
    directory: Path,
    *,
    trust_domain: str,
    now: datetime,
    lifetime: timedelta = ROOT_LIFETIME,
    passphrase: bytes | None = None,
) -> Authority:
    """Make a root in `directory`, its key encrypted by `passphrase` where one is given.

    Raises CaRefused if there is one, or a part of a CA without one.
    """
    with succession.exclusive(directory):
        if files.read(directory / "root.crt") is not None:
            raise CaRefused(
                f"{directory} has a root already", hint="'cellnet ca show' prints it; a new root needs a new directory"
            )
        return _first_root(directory, trust_domain=trust_domain, now=now, lifetime=lifetime, passphrase=passphrase)


def load_or_create(
    directory: Path,
    *,
    cell: str,
    trust_domain: str,
    now: datetime,
    root_lifetime: timedelta = ROOT_LIFETIME,
    cell_lifetime: timedelta = CELL_LIFETIME,
    may_make_root: bool = True,
) -> Authorities:
    """The cell's authorities: read, made if there are none, finished after a crash, renewed when due.

    Raises CaRefused for files that are missing, damaged, expired, or do not belong together; those are left as they are. So
    does a root that is missing where none may be made.
    """
    refused = CaRefused(f"{directory} has no root.crt, and a root of this cell alone is not made here", hint=_asked(cell))
    if not may_make_root and not directory.exists():
        raise refused  # to lock it would make it
    with succession.exclusive(directory):
        succession.finish(directory)
        if files.read(directory / "root.crt") is None:
            if not may_make_root:
                raise refused
            _first_root(directory, trust_domain=trust_domain, now=now, lifetime=root_lifetime)
        top, root = _root(directory, trust_domain=trust_domain, now=now)
        mine = _cell(directory, top)
        if root is not None and (mine is None or not _fresh(mine, now=now)):
            mine = issue_cell(root, cell=cell, trust_domain=trust_domain, now=now, lifetime=cell_lifetime)
            succession.put_cell(directory, mine)
        if mine is None:
            raise CaRefused(f"{directory} has no cell.crt", hint=GIVEN)
        _check_dates(mine.certificate, directory / "cell.crt", now=now, hint="have the root's owner issue a new one")
        return Authorities(mine, root)


def _asked(cell: str) -> str:
    made = f"'cellnet ca issue-cell --cell {cell} --out {cell}'"
    return f"have the root's owner run {made} ('cellnet ca init' makes a root), and copy the three files here"


def load(directory: Path, *, trust_domain: str, now: datetime) -> Authorities:
    """The cell's authorities as they are on disk: nothing is made or renewed. Raises CaRefused."""
    finish_crashed(directory)
    top, root = _root(directory, trust_domain=trust_domain, now=now)
    mine = _cell(directory, top)
    if mine is None:
        raise CaRefused(f"{directory} has no cell.crt", hint=GIVEN)
    _check_dates(mine.certificate, directory / "cell.crt", now=now, hint="have the root's owner issue a new one")
    return Authorities(mine, root)


def load_certificates(directory: Path, *, trust_domain: str) -> Certificates | None:
    """Those of the cell's authorities, of whatever dates, where their keys are of no use. None where they are not whole."""
    path = directory / "cell.crt"
    try:
        top = _root_certificate(directory, trust_domain=trust_domain)
        return Certificates(AuthorityChain(_chain(path, files.read(path) or b"", top)))
    except CaRefused:
        return None


def load_root(directory: Path, *, now: datetime, passphrase: bytes | None = None) -> Authority:
    """The root with its key, of whatever trust domain.

    Raises CaRefused where either is missing, expired or damaged, and where the key needs another `passphrase`.
    """
    path = directory / "root.crt"
    finish_crashed(directory)
    if files.read(path) is None:
        raise CaRefused(f"{directory} has no root.crt", hint="'cellnet ca init' makes a root")
    _, root = _root(directory, trust_domain=None, now=now, passphrase=passphrase)
    if root is None:
        if has_locked_root(directory):
            raise CaRefused(f"{directory / 'root.key'} is encrypted", hint=LOCKED)
        raise CaRefused(f"{directory} has no root.key", hint="this is done where the root's key is kept")
    return root


def has_locked_root(directory: Path) -> bool:
    """Whether the root's key is here, under a passphrase."""
    text = files.read_secret(directory / "root.key")
    return text is not None and is_encrypted(text)


def finish_crashed(directory: Path) -> None:
    """Put in place what a program that has crashed had decided."""
    if succession.is_decided(directory):
        with succession.exclusive(directory):
            succession.finish(directory)


def stamp(directory: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes whenever one of the files does."""
    return tuple(_stamp(directory / name) for name in ("root.crt", "root.key", "cell.crt", "cell.key"))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _first_root(
    directory: Path, *, trust_domain: str, now: datetime, lifetime: timedelta, passphrase: bytes | None = None
) -> Authority:
    for name in ("cell.crt", "cell.key"):
        if (directory / name).exists():
            raise CaRefused(
                f"{directory} has {name} but no root.crt",
                hint="put root.crt back (every cell of this CA has it), or move the directory away to start anew",
            )
    path = directory / "root.key"
    text = files.read_secret(path)
    key = None if text is None else private_key(text, where=str(path), passphrase=passphrase)
    root = make_root(trust_domain=trust_domain, now=now, lifetime=lifetime, key=key)
    if key is None:
        files.create(path, key_bytes(root.key, passphrase=passphrase), mode=SECRET)
    files.create(directory / "root.crt", root.bundle(), mode=PUBLIC)
    return root


def _root(
    directory: Path, *, trust_domain: str | None, now: datetime, passphrase: bytes | None = None
) -> tuple[x509.Certificate, Authority | None]:
    """The root's certificate, and with it the right to sign where its key is here and can be read. `trust_domain` None: any."""
    path, key_path = directory / "root.crt", directory / "root.key"
    top = _root_certificate(directory, trust_domain=trust_domain)
    _check_dates(top, path, now=now, hint=f"a new root is needed: move {directory} away and start again")
    text = files.read_secret(key_path)
    if text is None or (passphrase is None and is_encrypted(text)):
        return top, None
    return top, _paired((top,), private_key(text, where=str(key_path), passphrase=passphrase), path=path, key_path=key_path)


def _root_certificate(directory: Path, *, trust_domain: str | None) -> x509.Certificate:
    path = directory / "root.crt"
    top = certificates(files.read(path) or b"", where=str(path))[0]
    own = trust_domain_of(top)
    if None not in (own, trust_domain) and own != trust_domain:
        raise CaRefused(
            f"{path} is the root of {own}, not of {trust_domain}",
            hint=f"configure trust domain {own}, or move {directory} away",
        )
    return top


def _cell(directory: Path, top: x509.Certificate) -> Authority | None:
    path, key_path = directory / "cell.crt", directory / "cell.key"
    text, key_text = files.read(path), files.read_secret(key_path)
    if text is None and key_text is None:
        return None
    if text is None or key_text is None:
        lost, left = (path, key_path) if text is None else (key_path, path)
        raise CaRefused(f"{lost} is missing while {left} is there", hint=f"put it back, or move {left} away")
    return _paired(_chain(path, text, top), private_key(key_text, where=str(key_path)), path=path, key_path=key_path)


def _chain(path: Path, text: bytes, top: x509.Certificate) -> tuple[x509.Certificate, ...]:
    mine = certificates(text, where=str(path))[0]
    try:
        mine.verify_directly_issued_by(top)
    except (ValueError, TypeError, InvalidSignature) as error:
        hint = "put the root.crt that issued it here, or move cell.crt and cell.key away"
        raise CaRefused(f"{path} was not issued by {path.with_name('root.crt')}", hint=hint) from error
    return mine, top


def _paired(chain: tuple[x509.Certificate, ...], key: ec.EllipticCurvePrivateKey, *, path: Path, key_path: Path) -> Authority:
    if not fits(chain[0], key):
        raise CaRefused(
            f"{key_path} is not the key of {path}", hint="put the two that belong together in place, or move the key away"
        )
    if not may_sign(chain[0]):
        raise CaRefused(f"{path} is not a CA's certificate", hint="put a root or an intermediate in its place")
    return Authority(chain, key)


def _renew_at(cell: Authority) -> datetime | None:
    mine, top = Validity.of(cell.certificate), Validity.of(cell.chain[-1])
    # A successor would end with the root just the same, and be due again after half of ever less.
    return mine.half() if mine.not_after < top.not_after else None


def _fresh(cell: Authority, *, now: datetime) -> bool:
    due = _renew_at(cell)
    return Validity.of(cell.certificate).includes(now) and (due is None or now < due)


def _check_dates(certificate: x509.Certificate, path: Path, *, now: datetime, hint: str) -> None:
    valid = Validity.of(certificate)
    if now > valid.not_after:
        raise CaRefused(f"{path} expired at {valid.not_after:%Y-%m-%d %H:%M:%S} UTC", hint=hint)
    if now < valid.not_before:
        raise CaRefused(
            f"{path} is valid from {valid.not_before:%Y-%m-%d %H:%M:%S} UTC and it is {now:%Y-%m-%d %H:%M:%S}",
            hint="check the clock",
        )
