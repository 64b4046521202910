"""What comes from elsewhere: a cell's own certificate is taken up while the agent runs, the store's roots count at once."""

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import HostRefused
from agent.identity.leaf import unfit
from agent.identity.leaves import Leaves
from ca.authority import make_root
from ca.disk import init_root
from ca.issuing import issue
from ca.pem import certificates, chain_bytes, fingerprint
from tests.identity.conftest import DAY, NOON, LeafScene
from tests.testlib.samples import FIRST, SECOND, app, attachment

WEB = attachment(app("web"), address=FIRST)
DOMAIN = "cell.internal"


class ExternalRoot(LeafScene):
    """A cell whose root lives elsewhere."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority, self.ca = folder / "authority", folder / "ca"
        init_root(self.authority, trust_domain=DOMAIN, now=NOON)
        issue(self.authority, cell="cell-1", out=self.ca, now=NOON)

    def issue(self, authority: Path | None = None) -> Path:
        """The next folder for this cell."""
        out = self.folder / "next"
        shutil.rmtree(out, ignore_errors=True)
        issue(authority or self.authority, cell="cell-1", out=out, now=self.now)
        return out

    def other_root(self) -> Path:
        other = self.folder / "other"
        init_root(other, trust_domain=DOMAIN, now=NOON)
        return other


@pytest.fixture
def external(scene: LeafScene, monkeypatch: pytest.MonkeyPatch) -> ExternalRoot:
    monkeypatch.setattr("agent.identity.leaves.LONGEST_SLEEP", 0.05)
    return ExternalRoot(scene.folder)


def loaded(external: ExternalRoot) -> Leaves:
    leaves = external.leaves()
    leaves.load([WEB])
    return leaves


def copy(external: ExternalRoot, *names: str, of: Path) -> None:
    for name in names:
        shutil.copy(of / name, external.ca / name)


def end_of(leaves: Leaves) -> object:
    return leaves.authorities.cell.valid.not_after


async def test_a_renewed_certificate_is_taken_up_by_itself_and_the_leaves_stay(external: ExternalRoot) -> None:
    leaves = loaded(external)
    before, ends = leaves.all(), end_of(leaves)
    external.now += timedelta(minutes=10)
    copy(external, "cell.crt", "cell.key", of=external.issue())
    await external.run_until(leaves, lambda: end_of(leaves) != ends)
    assert leaves.all() == before
    assert leaves.failures == {}
    assert external.changes == 1


async def test_a_key_that_does_not_fit_its_certificate_is_reported_and_the_old_pair_stays_in_use(
    external: ExternalRoot,
) -> None:
    leaves = loaded(external)
    ends = end_of(leaves)
    external.now += DAY / 24
    new = external.issue()
    copy(external, "cell.crt", of=new)
    await external.run_until(leaves, lambda: "" in leaves.failures)
    (problem,) = leaves.problems()
    assert "cell.key is not the key of" in problem.what
    assert "put the two that belong together in place" in problem.hint
    assert end_of(leaves) == ends
    leaves.ensure(WEB)
    copy(external, "cell.key", of=new)
    await external.run_until(leaves, lambda: leaves.failures == {})
    assert end_of(leaves) != ends


async def test_missing_files_are_reported_and_nothing_is_made_in_their_place(external: ExternalRoot) -> None:
    leaves = loaded(external)
    for path in external.ca.iterdir():
        path.unlink()
    await external.run_until(leaves, lambda: "" in leaves.failures)
    assert not list(external.ca.iterdir())
    leaves.ensure(WEB)


async def test_with_another_root_every_leaf_is_issued_anew(external: ExternalRoot) -> None:
    leaves = loaded(external)
    new = external.issue(external.other_root())
    copy(external, "root.crt", "cell.crt", "cell.key", of=new)
    await external.run_until(leaves, lambda: leaves.trust.bundle == (new / "root.crt").read_bytes())
    await external.run_until(leaves, lambda: not misfit(leaves))
    assert leaves.keyring.trust.bundle.read_bytes() == leaves.trust.bundle


async def test_with_another_root_every_leaf_is_issued_anew_though_the_store_has_the_old_one_too(external: ExternalRoot) -> None:
    """Or the step after, in which the old one goes, would leave leaves that no peer takes."""
    leaves = loaded(external)
    new, old = external.issue(external.other_root()), leaves.trust.bundle
    leaves.trust.update(old + (new / "root.crt").read_bytes(), has_peers=True)
    copy(external, "root.crt", "cell.crt", "cell.key", of=new)
    await external.run_until(leaves, lambda: leaves.trust.own_root == (new / "root.crt").read_bytes())
    await external.run_until(leaves, lambda: not misfit(leaves))


def test_a_former_root_counts_as_presented_until_its_last_leaf_is_replaced(external: ExternalRoot) -> None:
    leaves = loaded(external)
    leaves.load([replace(WEB, name="api", address=SECOND)])
    new, former = external.issue(external.other_root()), leaves.roots
    root = (new / "root.crt").read_bytes()
    leaves.trust.update(leaves.trust.bundle + root, has_peers=True)
    copy(external, "root.crt", "cell.crt", "cell.key", of=new)
    leaves._issuer.renew()
    assert leaves._issuer.renew(), "once they have stayed the same from one look to the next"
    leaves._follow_issuer()
    both = former | {fingerprint(certificates(root, where="")[0])}
    assert (leaves.trust.roots, leaves.roots) == (both, both)
    leaves.ensure(WEB)
    assert leaves.roots == both
    leaves.drop("api")
    assert leaves.roots == both - former


def misfit(leaves: Leaves) -> object:
    leaf = leaves.all()["web"]
    return unfit(leaf, identity=leaves._identity(WEB), bundle=leaves.trust.own_root, now=NOON)


def test_the_operator_is_asked_for_the_next_one_fifteen_days_before_the_end(external: ExternalRoot) -> None:
    leaves = loaded(external)
    external.now = NOON + 74 * DAY
    assert list(leaves.problems()) == []
    external.now = NOON + 76 * DAY
    (problem,) = leaves.problems()
    assert "ends at 2027-02-19 12:00:00 UTC" in problem.what
    assert "cellnet ca issue-cell" in problem.hint


def test_the_operator_is_asked_for_another_root_half_a_year_before_its_end(external: ExternalRoot) -> None:
    leaves = loaded(external)
    late = NOON + (3650 - 181) * DAY
    external.now = late
    copy(external, "cell.crt", "cell.key", of=external.issue())
    leaves._issuer.renew()
    assert leaves._issuer.renew()
    assert list(leaves.problems()) == []
    external.now = late + 2 * DAY
    (problem,) = leaves.problems()
    assert problem.what == "the root ends at 2036-11-18 12:00:00 UTC, and every certificate with it"
    assert "cellnet ca rotate" in problem.hint


def test_a_certificate_that_has_ended_is_one_problem_and_the_reason_for_every_refusal(external: ExternalRoot) -> None:
    leaves = loaded(external)
    leaves.ensure(WEB)
    external.now = NOON + 91 * DAY
    with pytest.raises(HostRefused, match="has ended at 2027-02-19 12:00:00 UTC: TLS fails since") as refused:
        leaves.ensure(WEB)
    assert "cellnet ca issue-cell --cell " in refused.value.hint
    asyncio.run(leaves._renew())
    (problem,) = leaves.problems()
    assert (problem.what, problem.hint) == (refused.value.what, refused.value.hint)


@pytest.mark.parametrize("own_root", [False, True])
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda scene: (scene.folder / "ca/cell.key").unlink(), "cell.key is missing while"),
        (lambda scene: (scene.folder / "ca/cell.key").write_text("none"), "cell.key"),
        (lambda scene: setattr(scene, "now", NOON - DAY), "is valid from"),
        (lambda scene: setattr(scene, "now", NOON + 4000 * DAY), "expired at"),
    ],
    ids=["key missing", "key damaged", "clock behind", "all expired"],
)
async def test_a_cell_with_containers_starts_with_what_it_cannot_issue_with(
    scene: LeafScene, external: ExternalRoot, spoil: Callable[[LeafScene], None], why: str, own_root: bool
) -> None:
    place = external
    if own_root:
        shutil.rmtree(place.ca)
    loaded(place)
    kept = shutil.copytree(place.ca, place.folder / "kept")
    spoil(place)
    with pytest.raises(HostRefused, match=why):
        place.leaves()
    leaves = place.leaves(needed=True)
    leaves.load([WEB])
    assert any(why in each.what for each in leaves.problems())
    with pytest.raises(HostRefused):
        leaves.ensure(WEB)
    shutil.copytree(kept, place.ca, dirs_exist_ok=True)
    place.now = NOON
    await place.run_until(leaves, lambda: not list(leaves.problems()))
    leaves.ensure(WEB)


def test_one_without_certificates_does_not_start_whatever_it_has(external: ExternalRoot) -> None:
    loaded(external)
    (external.ca / "cell.crt").unlink()
    with pytest.raises(HostRefused, match=r"cell\.crt is missing while"):
        external.leaves(needed=True)


def test_what_is_valid_is_kept_by_a_start_without_the_key(external: ExternalRoot) -> None:
    before = loaded(external).all()
    (external.ca / "cell.key").unlink()
    leaves = external.leaves(needed=True)
    leaves.load([WEB])
    assert dict(leaves.all()) == dict(before)


@pytest.mark.parametrize("days", [-5, 5])
def test_what_only_the_clock_speaks_against_is_kept_where_none_can_be_issued(external: ExternalRoot, days: int) -> None:
    before = loaded(external).all()
    (external.ca / "cell.key").unlink()
    external.now = NOON + days * DAY
    leaves = external.leaves(needed=True)
    other = replace(WEB, address=SECOND)
    leaves.load([WEB])
    assert dict(leaves.all()) == dict(before)
    assert "web" in leaves.failures
    leaves = external.leaves(needed=True)
    leaves.load([other])
    assert dict(leaves.all()) == {}
    leaves = external.leaves(needed=True)
    (external.folder / "identity/web").mkdir(exist_ok=True)
    (external.folder / "identity/web/instance.crt").write_text("nothing that can be read")
    leaves.load([WEB])
    assert dict(leaves.all()) == {}


def test_a_cell_with_its_own_root_asks_no_operator(scene: LeafScene) -> None:
    leaves = scene.leaves()
    scene.now = NOON + 89 * DAY
    assert list(leaves.problems()) == []


def test_roots_of_the_store_are_trusted_beside_the_own_one_as_soon_as_they_are_known(external: ExternalRoot) -> None:
    leaves = loaded(external)
    own, theirs = leaves.trust.bundle, (external.other_root() / "root.crt").read_bytes()
    leaves.trust.update(own + theirs, has_peers=True)
    assert set(certificates(leaves.trust.bundle, where="")) == {*certificates(own, where=""), *certificates(theirs, where="")}
    assert leaves.keyring.trust.bundle.read_bytes() == leaves.trust.bundle
    assert list(leaves.problems()) == []
    leaves.trust.update(b"", has_peers=True)
    assert leaves.keyring.trust.bundle.read_bytes() == leaves.trust.bundle == own


def test_apps_read_the_last_known_roots_of_the_store_from_the_start(external: ExternalRoot) -> None:
    theirs = (external.other_root() / "root.crt").read_bytes()
    leaves = external.leaves()
    leaves.trust.update(theirs, has_peers=True)
    leaves.load([WEB])
    assert leaves.keyring.trust.bundle.read_bytes() == leaves.trust.bundle
    assert leaves.trust.bundle.count(b"BEGIN") == 2


def test_what_is_no_root_is_left_out_and_reported(external: ExternalRoot) -> None:
    leaves = loaded(external)
    own = leaves.trust.bundle
    leaves.trust.update(own + chain_bytes((leaves.authorities.cell.certificate,)), has_peers=True)
    assert leaves.trust.bundle == own
    (problem,) = leaves.problems()
    assert "number 2: CN=cell cell-1" in problem.what


@pytest.mark.parametrize(
    ("elsewhere", "shared", "others", "told"),
    [
        (False, False, False, False),
        (False, False, True, True),
        (False, True, False, True),
        (True, False, True, False),
        (True, True, True, True),
    ],
)
def test_a_cell_that_others_do_not_trust_reports_it(
    external: ExternalRoot, elsewhere: bool, shared: bool, others: bool, told: bool
) -> None:
    """With the root elsewhere and nothing in the store, every cell may have the same root: nothing is known to be wrong."""
    if not elsewhere:
        shutil.rmtree(external.ca)
    leaves = loaded(external)
    leaves.trust.update((external.other_root() / "root.crt").read_bytes() if shared else b"", has_peers=others)
    assert any("other cells do not trust this cell" in each.what for each in leaves.problems()) is told


async def test_a_full_tmpfs_stops_no_turn_and_apps_read_the_new_roots_when_there_is_room(external: ExternalRoot) -> None:
    leaves = loaded(external)
    filler = external.folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    leaves.trust.update(make_root(trust_domain=DOMAIN, now=NOON, lifetime=DAY).bundle(), has_peers=True)
    assert any("No space left" in each.what for each in leaves.problems())
    filler.unlink()
    await external.run_until(leaves, lambda: leaves.keyring.trust.bundle.read_bytes() == leaves.trust.bundle)
    leaves.trust.update(b"", has_peers=True)
    assert list(leaves.problems()) == []
