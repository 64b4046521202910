"""A cell's certificate from a root that lives elsewhere: the folder that is made is one that the cell's agent starts with."""

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ca import certificate, files
from ca.authority import make_root
from ca.disk import Authorities, init_root, load, load_or_create
from ca.errors import CaRefused
from ca.issuing import issue
from ca.leaf import issue_leaf
from ca.pem import chain_bytes, key_bytes
from ca.verify import verify
from tests.testlib.certificates import identity

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
DOMAIN = "cell.internal"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A folder with a root, away from every cell."""
    place = tmp_path / "authority"
    init_root(place, trust_domain=DOMAIN, now=NOW)
    return place


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "cell-1"


def test_the_folder_has_three_files_and_only_its_owner_may_read_the_key(authority: Path, out: Path) -> None:
    issue(authority, cell="cell-1", out=out, now=NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert modes == {"root.crt": 0o644, "cell.crt": 0o644, "cell.key": 0o600}
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert [path.name for path in sorted(out.parent.iterdir())] == ["authority", "cell-1"]


def test_a_cell_that_may_make_no_root_waits_for_the_folder_and_starts_with_it(authority: Path, out: Path) -> None:
    def start() -> Authorities:
        return load_or_create(out, cell="cell-1", trust_domain=DOMAIN, now=NOW, may_make_root=False)

    with pytest.raises(CaRefused, match=r"has no root\.crt, and a root of this cell alone is not made") as refused:
        start()
    assert "cellnet ca issue-cell --cell cell-1 --out cell-1" in refused.value.hint
    assert not out.exists()
    issued = issue(authority, cell="cell-1", out=out, now=NOW)
    assert start().cell == issued


def test_the_cell_starts_with_the_folder_and_what_it_signs_verifies_with_the_root(authority: Path, out: Path) -> None:
    issued = issue(authority, cell="cell-1", out=out, now=NOW)
    started = load_or_create(out, cell="cell-1", trust_domain=DOMAIN, now=NOW + DAY)
    assert started.root is None
    assert started.cell == issued == load(out, trust_domain=DOMAIN, now=NOW).cell
    assert started.cell.valid.not_after == NOW + 90 * DAY
    leaf = issue_leaf(started.cell, identity=identity(), now=NOW, lifetime=DAY)
    assert verify(leaf.chain, (authority / "root.crt").read_bytes(), now=NOW) == identity()


def test_two_cells_of_one_root_verify_each_other(authority: Path, tmp_path: Path) -> None:
    one, two = (issue(authority, cell=name, out=tmp_path / name, now=NOW) for name in ("one", "two"))
    leaf = issue_leaf(one, identity=identity(), now=NOW, lifetime=DAY)
    assert verify(leaf.chain, two.bundle(), now=NOW) == identity()


def test_an_empty_folder_is_taken_and_narrowed(authority: Path, out: Path) -> None:
    out.mkdir(mode=0o755)
    issue(authority, cell="cell-1", out=out, now=NOW)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


def test_a_cell_never_outlives_its_root(authority: Path, out: Path) -> None:
    made = issue(authority, cell="cell-1", out=out, now=NOW + 3640 * DAY)
    assert made.valid.not_after == NOW + 3650 * DAY


def _no_root(authority: Path, out: Path) -> None:
    (authority / "root.crt").unlink()


def _no_key(authority: Path, out: Path) -> None:
    (authority / "root.key").unlink()


def _full(authority: Path, out: Path) -> None:
    out.mkdir()
    (out / "notes").touch()


def _file(authority: Path, out: Path) -> None:
    out.touch()


def _link(authority: Path, out: Path) -> None:
    out.symlink_to(authority)


def _open_key(authority: Path, out: Path) -> None:
    (authority / "root.key").chmod(0o644)


def _no_room_below(authority: Path, out: Path) -> None:
    _put_root(authority, (x509.BasicConstraints(ca=True, path_length=0), True))


def _constrained(authority: Path, out: Path) -> None:
    permitted = [x509.UniformResourceIdentifier("other.example")]
    _put_root(authority, (x509.NameConstraints(permitted, None), True), (x509.BasicConstraints(ca=True, path_length=1), True))


def _of_nobody(authority: Path, out: Path) -> None:
    _put_root(authority, (x509.BasicConstraints(ca=True, path_length=1), True), named=False)


def _put_root(authority: Path, *extensions: tuple[x509.ExtensionType, bool], named: bool = True) -> None:
    """A root that another tool has made."""
    key = make_root(trust_domain=DOMAIN, now=NOW, lifetime=DAY).key
    name = certificate.subject(organization="other", common="root")
    own = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}")])
    made = certificate.sign(
        certificate.Signer(name, key), name=name, key=key.public_key(),
        valid=certificate.validity(now=NOW, lifetime=99 * DAY),
        extensions=(*extensions, (certificate.key_usage(authority=True), True), *([(own, False)] if named else [])),
    )  # fmt: skip
    files.replace(authority / "root.crt", chain_bytes((made,)), mode=0o644)
    files.replace(authority / "root.key", key_bytes(key), mode=0o600)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (_no_root, r"authority has no root\.crt"),
        (_no_key, r"authority has no root\.key"),
        (_open_key, r"root\.key may be read by others"),
        (_full, r"cell-1 holds something"),
        (_file, r"cell-1 is there and no folder"),
        (_link, r"cell-1 is there and no folder"),
        (_no_room_below, r"this root cannot vouch for a cell's apps"),
        (_constrained, r"this root cannot vouch for a cell's apps"),
        (_of_nobody, r"root\.crt names no trust domain"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint_and_nothing_is_made(
    authority: Path, out: Path, wrong: Callable[[Path, Path], None], words: str
) -> None:
    wrong(authority, out)
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(CaRefused, match=words) as refusal:
        issue(authority, cell="cell-1", out=out, now=NOW)
    assert refusal.value.hint
    assert sorted(out.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["", "Cell", "a b", "../x", "a" * 64])
def test_a_name_that_no_cell_can_have_is_refused(authority: Path, out: Path, name: str) -> None:
    with pytest.raises(CaRefused, match="cannot name a cell"):
        issue(authority, cell=name, out=out, now=NOW)


def test_an_expired_root_is_refused(authority: Path, out: Path) -> None:
    with pytest.raises(CaRefused, match=r"root\.crt expired"):
        issue(authority, cell="cell-1", out=out, now=NOW + 3651 * DAY)


def test_the_remains_of_a_crash_are_no_obstacle(authority: Path, out: Path) -> None:
    left = out.with_name(f".{out.name}.new")
    left.mkdir(mode=0o700)
    (left / "cell.key").touch()
    issue(authority, cell="cell-1", out=out, now=NOW)
    assert not left.exists()


def test_a_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(CaRefused):
        load(tmp_path, trust_domain=DOMAIN, now=NOW)
    assert not list(tmp_path.iterdir())
