"""A root that is replaced where it is: at any moment one root with its own key and its own cell, whatever the crash."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from ca.disk import Authorities, init_root, load, load_or_create
from ca.errors import CaRefused
from ca.issuing import issue
from ca.leaf import issue_leaf
from ca.pem import certificates
from ca.replacement import adopt, discard, is_locked, prepare, waiting_root
from ca.verify import verify
from tests.testlib.certificates import identity
from tests.testlib.crashes.disk_writes import interrupted

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
DOMAIN = "cell.internal"
WHOLE = ["cell.crt", "cell.key", "root.crt", "root.key"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    start(tmp_path / "ca")
    return tmp_path / "ca"


def start(place: Path, *, now: datetime = NOW) -> Authorities:
    return load_or_create(place, cell="one", trust_domain=DOMAIN, now=now)


def prepared(place: Path, *, passphrase: bytes | None = None, now: datetime = NOW) -> bytes:
    return prepare(place, trust_domain=DOMAIN, now=now, passphrase=passphrase)


def adopted(place: Path, *, passphrase: bytes | None = None) -> None:
    adopt(place, cell="one", trust_domain=DOMAIN, now=NOW, passphrase=passphrase)


def replaced(place: Path) -> None:
    prepared(place)
    adopted(place)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def signs(authorities: Authorities) -> bytes:
    """The root that what is signed now leads to."""
    leaf = issue_leaf(authorities.cell, identity=identity(), now=NOW, lifetime=DAY)
    assert verify(leaf.chain, authorities.bundle(), now=NOW) == identity()
    assert authorities.root is not None
    assert authorities.root.certificate == certificates(authorities.bundle(), where="")[0]
    return authorities.bundle()


def test_a_root_waits_without_a_change_to_what_signs_and_takes_its_place_on_demand(place: Path) -> None:
    before = start(place)
    new = prepared(place)
    assert (start(place).cell, waiting_root(place)) == (before.cell, new)
    assert prepared(place) == new, "once made it is the one"
    assert start(place, now=NOW + 60 * DAY).bundle() == before.bundle(), "a renewal meanwhile is by the old root"
    adopted(place)
    assert (signs(load(place, trust_domain=DOMAIN, now=NOW)), names(place)) == (new, WHOLE)
    assert waiting_root(place) is None
    adopted(place)
    assert signs(start(place)) == new
    assert prepared(place) not in (new, before.bundle())


LOOKS: dict[str, Callable[[Path], Authorities]] = {
    "a start": start,
    "a running agent": lambda place: load(place, trust_domain=DOMAIN, now=NOW),
}


@pytest.mark.parametrize(("look", "full"), [("a start", False), ("a running agent", False), ("a running agent", True)])
def test_interrupted_anywhere_it_is_the_old_root_or_the_new_one_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str, full: bool
) -> None:
    """Dies, or finds the disk full, before the first call that changes the disk, the second, and so on."""
    ends = set[bool]()
    for steps in count():
        place = tmp_path / str(steps)
        old = start(place).bundle()
        was_interrupted = cut_short(lambda: replaced(place), monkeypatch, steps, full=full)
        found = signs(LOOKS[look](place))
        ends.add(found == old)
        new = prepared(place) if found == old else found
        adopted(place)
        assert signs(start(place)) == new
        assert names(place) == WHOLE
        if not was_interrupted:
            break
    assert ends == {True, False}
    assert steps > 12


def cut_short(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, steps: int, *, full: bool) -> bool:
    if not full:
        return interrupted(work, monkeypatch, after=steps)
    try:
        interrupted(work, monkeypatch, after=steps, error=OSError)
    except CaRefused:
        return True
    return False


def test_a_key_without_certificate_gets_one_and_one_that_has_ended_is_made_anew(place: Path) -> None:
    prepared(place)
    key = (place / "next-root.key").read_bytes()
    (place / "next-root.crt").unlink()
    again = prepared(place)
    assert (place / "next-root.key").read_bytes() == key
    start(place, now=NOW + 60 * DAY)
    late = prepare(place, trust_domain=DOMAIN, now=NOW, lifetime=DAY)
    assert late == again
    discard(place)
    short = prepare(place, trust_domain=DOMAIN, now=NOW, lifetime=DAY)
    assert prepared(place, now=NOW + 2 * DAY) != short
    assert (place / "next-root.key").read_bytes() != key


def test_only_where_the_present_roots_key_is_a_new_one_is_made(place: Path, tmp_path: Path) -> None:
    issue(place, cell="two", out=tmp_path / "two", now=NOW)
    with pytest.raises(CaRefused, match=r"has no root\.key"):
        prepared(tmp_path / "two")
    assert names(tmp_path / "two") == ["cell.crt", "cell.key", "root.crt"]
    adopted(tmp_path / "two")


def test_a_root_under_a_passphrase_is_replaced_by_one_under_the_same(tmp_path: Path) -> None:
    place, words = tmp_path / "ca", b"correct horse"
    init_root(place, trust_domain=DOMAIN, now=NOW, passphrase=words)
    issue(place, cell="one", out=tmp_path / "one", now=NOW, passphrase=words)
    for name in ("cell.crt", "cell.key"):
        (tmp_path / "one" / name).rename(place / name)
    for wrong in (None, b"wrong"):
        with pytest.raises(CaRefused):
            prepared(place, passphrase=wrong)
    assert not is_locked(place)
    new = prepared(place, passphrase=words)
    assert is_locked(place)
    with pytest.raises(CaRefused, match="the passphrase does not open"):
        adopted(place, passphrase=b"wrong")
    adopted(place, passphrase=words)
    found = start(place)
    assert (found.bundle(), found.root, names(place)) == (new, None, WHOLE)
    assert b"ENCRYPTED" in (place / "root.key").read_bytes()


def test_a_root_that_waits_in_vain_can_be_taken_away(place: Path) -> None:
    before = start(place)
    prepared(place)
    discard(place)
    discard(place)
    assert (names(place), start(place).cell) == (WHOLE, before.cell)


def test_what_does_not_belong_together_is_reported_and_nothing_is_put_in_place(place: Path, tmp_path: Path) -> None:
    prepared(place)
    (tmp_path / "other").mkdir(mode=0o700)
    start(tmp_path / "other")
    (place / "next-root.key").write_bytes((tmp_path / "other/root.key").read_bytes())
    before = signs(start(place))
    for work in (prepared, adopted):
        with pytest.raises(CaRefused, match=r"next-root\.key is not the key of"):
            work(place)
    assert signs(start(place)) == before
