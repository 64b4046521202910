"""A program holds the xtables lock and never gives it back: that is reported in bounded time, and nothing new passes."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence

import pytest

from agent.errors import HostRefused
from dataplane.firewall.backends.legacy import lock_file
from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections, is_reset
from tests.testlib.containers import Attach
from tests.testlib.footprint import expected, footprint
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, follows_policy, three_apps
from tests.testlib.status import reports
from tests.testlib.unsupervised_cell import UnsupervisedCell

pytestmark = pytest.mark.release

LATE = f"policies:\n- {{from: {OTHER}, to: {API}, tcp: [8080, 9100]}}\n"


@pytest.fixture(scope="module", autouse=True)
def own_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A lock of this module's own, or everybody's rules on this machine would wait. Made before the cell, which inherits it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XTABLES_LOCKFILE", str(tmp_path_factory.mktemp("lock") / "xtables.lock"))
        yield


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return UnsupervisedCell


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("firewall.backend=legacy",)


@contextlib.contextmanager
def held() -> Iterator[None]:
    with lock_file().open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def rules(cell: CellUnderTest) -> list[str]:
    """Reading them needs no lock."""
    return [line for line in cell.host.run("iptables-legacy-save").splitlines() if line.startswith("-A ")]


def test_a_lock_that_is_never_given_back_lets_nothing_in_and_is_reported(
    cell: CellUnderTest, attach: Attach, netns: Callable[[str], Netns]
) -> None:
    web, api, other = three_apps(cell)
    cell.policy_file("late.yaml", LATE)
    live, late, place, before = LiveConnections(web, api), pair(other, api, 9100), netns("more"), rules(cell)
    with held():
        with pytest.raises(HostRefused, match="xtables lock") as refused:
            attach("acme/shop/more", to=place)
        assert "more" not in cell.attachments()
        assert "eth0" not in place.run("ip", "-o", "link"), "nothing is connected before its rules are there"
        assert str(lock_file()) in refused.value.hint + refused.value.what
        assert rules(cell) == before
        assert footprint(cell).pins == expected(cell).pins
        cell.remove_policy_file("late.yaml", sync=False)
        eventually(lambda: reports(cell, "kernel", "xtables lock"))
        assert "xtables lock" in cell.cellnet("sync", "--timeout", "0.3", code=1).err
        cell.policy_file("more.yaml", LATE.replace(OTHER, "acme/shop/more"), sync=False)
        assert (api.connect(web, 8080), other.connect(api, 8081)) == (Refused, Refused)
        assert live.go_on()
    cell.wait_well()
    assert all(map(is_reset, late)), "what was revoked meanwhile is cut as soon as it can be"
    assert attach("acme/shop/more", to=place).connect(api, 8080) is Connected
    assert live.go_on()
    assert follows_policy(web, api, other)
