"""A CA's directory: what a first start makes, what each crash leaves, how the next start goes on, what damage is reported."""

import os
import shutil
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from ca import files
from ca.authority import Authority, issue_cell, make_root
from ca.certificate import LARGEST_SKEW, Validity
from ca.disk import Authorities, init_root, load_or_create
from ca.errors import CaRefused
from ca.leaf import issue_leaf
from ca.pem import certificates, chain_bytes, fits, key_bytes, private_key
from ca.show import show
from ca.verify import verify
from tests.testlib.certificates import identity
from tests.testlib.crashes.disk_writes import interrupted

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "ca"


def start(place: Path, *, now: datetime = NOW) -> Authorities:
    return load_or_create(place, cell="one", trust_domain="cell.internal", now=now)


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def stamps(place: Path) -> dict[str, tuple[int, int, int]]:
    states = {path.name: path.stat() for path in place.iterdir()}
    return {name: (state.st_ino, state.st_mtime_ns, state.st_mode) for name, state in states.items()}


def vouches(authorities: Authorities, *, now: datetime) -> bool:
    leaf = issue_leaf(authorities.cell, identity=identity(), now=now, lifetime=DAY)
    return verify(leaf.chain, authorities.bundle(), now=now) == identity()


def test_a_first_start_makes_all_four_files_and_the_next_changes_nothing(place: Path) -> None:
    first = start(place)
    before = contents(place)
    assert sorted(before) == ["cell.crt", "cell.key", "root.crt", "root.key"]
    again = start(place, now=NOW + DAY)
    assert contents(place) == before
    assert again.cell == first.cell
    assert vouches(again, now=NOW + DAY)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(place: Path, umask: int) -> None:
    place.parent.mkdir()
    old = os.umask(umask)
    try:
        start(place)
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}
    assert modes == {"root.key": 0o600, "cell.key": 0o600, "root.crt": 0o644, "cell.crt": 0o644}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_key_is_secret_from_the_first_moment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = os.open

    def watched(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            opened.append(mode)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", watched)
    start(place)
    assert opened == [0o600] * 4


@pytest.mark.parametrize("renewal", [False, True])
def test_a_crash_at_any_step_leaves_something_that_the_next_start_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renewal: bool
) -> None:
    """Walks every call that changes the disk: dies before the first, the second, and so on until one run survives."""
    now = NOW + 60 * DAY if renewal else NOW
    steps = 0
    while True:
        place = tmp_path / str(steps)
        if renewal:
            start(place, now=NOW)
        root_before = contents(place).get("root.key") if renewal else None
        crashed = interrupted(lambda: start(place, now=now), monkeypatch, after=steps)
        key_left = contents(place).get("root.key") if place.exists() else None
        made = start(place, now=now)
        assert vouches(made, now=now), f"after a crash at step {steps}"
        assert sorted(contents(place)) == ["cell.crt", "cell.key", "root.crt", "root.key"]
        assert contents(place)["root.key"] == (key_left or contents(place)["root.key"])
        assert root_before in (None, contents(place)["root.key"])
        assert Validity.of(made.cell.certificate).not_before > now - DAY, "the intermediate is a new one"
        if not crashed:
            break
        steps += 1
    assert steps > 8


def test_a_root_key_without_certificate_gets_one_and_stays(place: Path) -> None:
    start(place)
    key = (place / "root.key").read_bytes()
    for name in ("root.crt", "cell.crt", "cell.key"):
        (place / name).unlink()
    assert vouches(start(place), now=NOW)
    assert (place / "root.key").read_bytes() == key


def test_a_second_name_of_the_root_key_does_not_outlast_a_crash(place: Path) -> None:
    start(place)
    os.link(place / "root.key", place / ".root.key.new")
    (place / "root.key").rename(place.parent / "safe.key")
    start(place)
    assert sorted(contents(place)) == ["cell.crt", "cell.key", "root.crt"]


def test_a_root_may_live_off_the_cell(place: Path) -> None:
    start(place)
    (place / "root.key").unlink()
    there = start(place, now=NOW + 80 * DAY)
    assert there.root is None
    assert there.renew_at is None
    assert vouches(there, now=NOW + 80 * DAY)
    with pytest.raises(CaRefused, match=r"cell\.crt expired"):
        start(place, now=NOW + 91 * DAY)


def test_a_cells_intermediate_is_renewed_at_half_its_life_with_a_new_key(place: Path) -> None:
    first = start(place)
    assert first.renew_at is not None
    assert start(place, now=first.renew_at - timedelta(seconds=1)).cell == first.cell
    second = start(place, now=first.renew_at)
    assert second.cell != first.cell
    assert not fits(first.cell.certificate, second.cell.key)
    assert second.bundle() == first.bundle()
    assert vouches(second, now=NOW + 80 * DAY)


def test_an_agent_that_slept_past_the_intermediates_end_gets_a_new_one(place: Path) -> None:
    start(place)
    assert vouches(start(place, now=NOW + 300 * DAY), now=NOW + 300 * DAY)


def test_an_intermediate_that_ends_with_its_root_is_not_renewed_for_nothing(place: Path) -> None:
    start(place)
    late = NOW + 3650 * DAY - 10 * DAY
    last = start(place, now=late)
    assert last.renew_at is None
    assert start(place, now=late + 9 * DAY).cell == last.cell


def _no_cell_key(place: Path) -> None:
    (place / "cell.key").unlink()


def _no_cell_certificate(place: Path) -> None:
    (place / "cell.crt").unlink()


def _no_root_certificate(place: Path) -> None:
    (place / "root.crt").unlink()


def _foreign_root_key(place: Path) -> None:
    other = make_root(trust_domain="cell.internal", now=NOW, lifetime=99 * DAY)
    (place / "root.key").write_bytes(key_bytes(other.key))


def _foreign_cell_key(place: Path) -> None:
    shutil.copy(place / "root.key", place / "cell.key")


def _leaf_for_cell(place: Path) -> None:
    root = private_key((place / "root.key").read_bytes(), where="")
    top = certificates((place / "root.crt").read_bytes(), where="")
    leaf = issue_leaf(Authority(top, root), identity=identity(), now=NOW, lifetime=80 * DAY)
    (place / "cell.crt").write_bytes(leaf.chain)
    (place / "cell.key").write_bytes(leaf.key)


def _foreign_root(place: Path) -> None:
    other = make_root(trust_domain="cell.internal", now=NOW, lifetime=99 * DAY)
    (place / "root.crt").write_bytes(other.bundle())
    (place / "root.key").write_bytes(key_bytes(other.key))


def _other_trust_domain(place: Path) -> None:
    other = make_root(trust_domain="other.example", now=NOW, lifetime=99 * DAY)
    (place / "root.crt").write_bytes(other.bundle())


def _empty_root(place: Path) -> None:
    (place / "root.crt").write_bytes(b"")


def _cut_root_key(place: Path) -> None:
    (place / "root.key").write_bytes((place / "root.key").read_bytes()[:100])


def _cut_cell(place: Path) -> None:
    (place / "cell.crt").write_bytes((place / "cell.crt").read_bytes()[:200])


def _open_key(place: Path) -> None:
    (place / "root.key").chmod(0o640)


def _directory_for_file(place: Path) -> None:
    (place / "cell.key").unlink()
    (place / "cell.key").mkdir()


def _open_directory(place: Path) -> None:
    place.chmod(0o755)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_cell_key, r"cell\.key is missing while .*cell\.crt is there"),
        (_no_cell_certificate, r"cell\.crt is missing while .*cell\.key is there"),
        (_no_root_certificate, r"has cell\.crt but no root\.crt"),
        (_foreign_root_key, r"root\.key is not the key of .*root\.crt"),
        (_foreign_cell_key, r"cell\.key is not the key of .*cell\.crt"),
        (_leaf_for_cell, r"cell\.crt is not a CA's certificate"),
        (_foreign_root, r"cell\.crt was not issued by .*root\.crt"),
        (_other_trust_domain, r"root\.crt is the root of other\.example, not of cell\.internal"),
        (_empty_root, r"root\.crt holds no readable certificate"),
        (_cut_root_key, r"root\.key holds no readable private key"),
        (_cut_cell, r"cell\.crt holds no readable certificate"),
        (_open_key, r"root\.key may be read by others \(mode 0640"),
        (_directory_for_file, r"cannot read .*cell\.key: Is a directory"),
        (_open_directory, r"ca is open to others \(mode 0755"),
    ],
)
def test_damage_is_reported_with_a_hint_and_nothing_is_changed(place: Path, damage: Callable[[Path], None], words: str) -> None:
    start(place)
    damage(place)
    before = stamps(place)
    for now in (NOW, NOW + 60 * DAY):
        with pytest.raises(CaRefused, match=words) as refusal:
            start(place, now=now)
        assert refusal.value.hint
        assert "PRIVATE" not in refusal.value.what
    assert stamps(place) == before


@pytest.mark.parametrize(("now", "words"), [(NOW + 3651 * DAY, r"root\.crt expired"), (NOW - DAY, r"root\.crt is valid from")])
def test_a_root_out_of_its_dates_is_reported(place: Path, now: datetime, words: str) -> None:
    start(place)
    before = contents(place)
    with pytest.raises(CaRefused, match=words):
        start(place, now=now)
    assert contents(place) == before


def test_a_root_certificate_without_cell_and_key_cannot_start(place: Path) -> None:
    start(place)
    for name in ("root.key", "cell.crt", "cell.key"):
        (place / name).unlink()
    with pytest.raises(CaRefused, match=r"has no cell\.crt"):
        start(place)


def test_init_makes_a_root_that_the_agent_then_uses(place: Path) -> None:
    root = init_root(place, trust_domain="cell.internal", now=NOW)
    assert sorted(contents(place)) == ["root.crt", "root.key"]
    assert start(place).bundle() == root.bundle()


def test_init_refuses_where_there_is_a_root(place: Path) -> None:
    start(place)
    before = contents(place)
    with pytest.raises(CaRefused, match="has a root already"):
        init_root(place, trust_domain="cell.internal", now=NOW)
    (place / "root.crt").unlink()
    with pytest.raises(CaRefused, match=r"no root\.crt"):
        init_root(place, trust_domain="cell.internal", now=NOW)
    (place / "root.crt").write_bytes(before["root.crt"])
    assert contents(place) == before


def test_create_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "root.key").write_bytes(b"precious")
    with pytest.raises(CaRefused, match="exists already"):
        files.create(tmp_path / "root.key", b"new", mode=0o600)
    assert contents(tmp_path) == {"root.key": b"precious"}


def test_starts_at_the_same_moment_agree(place: Path) -> None:
    made: list[Authorities] = []
    threads = [threading.Thread(target=lambda: made.append(start(place))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(made) == 6
    assert len({each.cell.fingerprint() for each in made}) == 1


def test_a_decided_renewal_is_finished_even_when_it_is_not_due_any_more(place: Path) -> None:
    first = start(place)
    assert first.root is not None
    successor = issue_cell(first.root, cell="one", trust_domain="cell.internal", now=NOW, lifetime=90 * DAY)
    files.replace(place / "next.key", key_bytes(successor.key), mode=0o600)
    files.replace(place / "next.crt", chain_bytes(successor.below_root()), mode=0o644)
    assert start(place).cell == successor


def test_show_describes_root_and_cell_without_a_key(place: Path) -> None:
    made = start(place)
    shown = show(place)
    assert shown.bundle == made.bundle()
    assert shown.root_key_here
    assert shown.root.fingerprint == made.cell.chain[-1].fingerprint(hashes.SHA256()).hex()
    assert shown.root.subject == "CN=root cell.internal,O=cellnet"
    assert shown.cell is not None
    assert shown.cell.subject == "CN=cell one,O=cellnet"
    assert shown.cell.serial == f"{made.cell.certificate.serial_number:x}"
    assert (shown.cell.not_before, shown.cell.not_after) == (NOW - LARGEST_SKEW, NOW + 90 * DAY)


def test_show_of_an_empty_folder_hints_at_the_way_to_a_root(place: Path) -> None:
    with pytest.raises(CaRefused, match=r"no root\.crt") as refusal:
        show(place)
    assert "ca init" in refusal.value.hint
    assert not place.exists()


def test_what_is_on_disk_is_what_is_in_memory(place: Path) -> None:
    made = start(place)
    assert certificates((place / "cell.crt").read_bytes(), where="")[0] == made.cell.certificate
    assert fits(made.cell.certificate, private_key((place / "cell.key").read_bytes(), where=""))
