"""Three cells whose etcd dies, hangs, is cut off, compacted or loses its data: nothing is taken away, and nothing flaps.

What is in force is compared as the kernels have it, and they are listened to meanwhile. Connections between cells are held open
over each of these.
"""

import shutil

import pytest

from agent.client.connection import attachment_address
from agent.errors import Unavailable
from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import ConnectionPair
from tests.testlib.explained import explained
from tests.testlib.kernel_changes import undisturbed
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Refused, connect_at_once
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies
from tests.testlib.status import is_seen_alive, is_well, listed, reports

NEW, JOB = "acme/shop/new", "acme/shop/job"
PATIENCE = 60.0  # seconds until an outage is over, or known: an etcd is tried every 5 seconds at most


def stop(cells: CellsUnderTest, how: str) -> None:
    cells.etcd.kill() if how == "killed" else cells.etcd.freeze()


def told(cells: CellsUnderTest) -> None:
    """Return when every cell's status says so."""
    for each in cells:
        eventually(lambda: reports(each, "store", "etcd"), seconds=PATIENCE)


def over(cells: CellsUnderTest) -> None:
    """Return when every cell is well and knows that all others are alive."""
    for each in cells:
        eventually(lambda: is_well(each), seconds=PATIENCE)
        others = [other for other in cells if other is not each]
        for other in others:
            eventually(lambda: is_seen_alive(other, by=each), seconds=PATIENCE)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_etcd_all_goes_on_and_what_needs_it_is_refused_with_the_reason(
    cells: CellsUnderTest, place: Place, how: str
) -> None:
    web, api = place(1, WEB), place(2, API, 8080, 8081)
    cells.allow(WEB, API, "tcp/8080", "udp/8080")
    cells.allow(OTHER, API, "tcp/8080")  # so that this app is known
    tie = ConnectionPair(web, api)
    with undisturbed(*cells):
        stop(cells, how)
        told(cells)
        assert "this cell does not hear of the store" in explained(cells[1], WEB, API, "tcp/8080")
        assert tie.go_on()
    assert connect_at_once(place(3, OTHER), api, 8080) is Connected
    assert connect_at_once(place(1, WEB, name="second"), api, 8080) is Connected
    cells[2].policy_file("more.yaml", policies(f"from: {WEB}, to: {API}, tcp: 8081"))
    assert connect_at_once(web, api, 8081) is Connected
    new = Netns("new")
    body = {"app": NEW, "netns": str(new.path), "ports": ()}
    with pytest.raises(Unavailable) as refused:
        cells[1].client.ask("PUT", attachment_address("new"), body)
    assert f"app {NEW} is new and needs a tag from the store: etcd (" in refused.value.what
    assert "attach it when the store answers" in refused.value.hint
    denied = cells[3].cellnet("policy", "allow", JOB, API, "tcp/1", code=None)
    assert denied.code != 0
    assert "etcd" in denied.err
    assert "hint" in denied.err
    with undisturbed(*cells):
        restart_agents(cells, 1, 3)
        assert tie.go_on()
        assert [each.lab.number for each in cells if len(listed(each)) == len(cells)] == [1, 2, 3]
    with undisturbed(*cells):
        cells.etcd.start()
        over(cells)
        cells.sync()
        assert tie.go_on()
    cells[1].client.ask("PUT", attachment_address("new"), body)
    assert "new" in cells[1].attachments()
    cells[1].client.delete(attachment_address("new"))
    new.close()


def restart_agents(cells: CellsUnderTest, *numbers: int) -> None:
    """While etcd is away: each goes by what it heard last."""
    for number in numbers:
        cells[number].kill("agent")
    for number in numbers:
        cells[number].start(well=False)
    for number in numbers:
        eventually(lambda: reports(cells[number], "store", "etcd"), seconds=PATIENCE)


def test_a_cell_that_was_cut_off_meets_what_was_changed_and_compacted_meanwhile(cells: CellsUnderTest, place: Place) -> None:
    web, api, job = place(1, WEB), place(2, API, 8080), place(3, JOB)
    cells.allow(WEB, API, "tcp/8080", "udp/8080")
    tie = ConnectionPair(web, api)
    with undisturbed(cells[2]):
        cells.partition(2)
        eventually(lambda: reports(cells[2], "store", "etcd"), seconds=PATIENCE)
    for number in range(5):
        assert cells.etcd.try_ctl("put", "/elsewhere", str(number)).code == 0
    cells[3].cellnet("policy", "allow", JOB, API, "tcp/8080", "tcp/1")
    status = cells.etcd.try_ctl("endpoint", "status", "-w", "fields").out
    revision = next(int(line.split()[-1]) for line in status.splitlines() if line.startswith('"Revision"'))
    assert cells.etcd.try_ctl("compact", str(revision)).code == 0
    with undisturbed(cells[1], cells[3]):
        cells.heal(2)
        over(cells)
        cells.sync()
    assert connect_at_once(job, api, 8080) is Connected
    eventually(tie.go_on_again)


def test_an_etcd_that_comes_back_empty_takes_nothing_away(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    cells.allow(WEB, API, "tcp/8080", "udp/8080")
    tie = ConnectionPair(web, api)
    with undisturbed(*cells):
        cells.etcd.kill()
        shutil.rmtree(cells.etcd.folder / "data")
        cells.etcd.start()
        held(cells)
        assert [len(listed(each)) for each in cells] == [len(cells)] * len(cells)
        assert tie.go_on()
        cells.allow(WEB, API, "tcp/8080", "udp/8080")
        over(cells)
        assert tie.go_on()


def test_older_data_of_etcd_changes_nothing_until_the_operator_accepts_it(cells: CellsUnderTest, place: Place) -> None:
    """A policy that is newer stays; one that was deleted since stays out of force."""
    web, api, other = place(1, WEB), place(2, API, 8080), place(3, OTHER)
    cells.allow(WEB, API, "tcp/8080")
    data, older = cells.etcd.folder / "data", cells.etcd.folder / "older"
    cells.etcd.kill()
    shutil.copytree(data, older)
    cells.etcd.start()
    over(cells)
    cells.allow(OTHER, API, "tcp/8080", "udp/8080")
    cells[1].cellnet("policy", "delete", WEB, API, "tcp/8080")
    cells.sync()
    tie = ConnectionPair(other, api)
    assert connect_at_once(web, api, 8080) is Refused
    with undisturbed(*cells):
        cells.etcd.kill()
        shutil.rmtree(data)
        older.rename(data)
        cells.etcd.start()
        held(cells)
        assert connect_at_once(web, api, 8080) is Refused
        assert tie.go_on()
    cells[3].cellnet("policy", "accept-loss")
    over(cells)
    cells.sync()
    assert (connect_at_once(web, api, 8080), connect_at_once(other, api, 8080)) == (Connected, Refused)
    assert not tie.go_on_again()


def held(cells: CellsUnderTest) -> None:
    """Return when every cell's status reports that policies are held."""
    for each in cells:
        eventually(lambda: reports(each, "store", "held"), seconds=PATIENCE)
