"""Cells that die, come back, move, are removed, or have another's name: what the others and their containers notice of it.

One container a cell: the next has its address at once.
"""

import json
import random
import shutil
import socket
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from ipaddress import IPv4Address

import pytest

from tests.cells.conftest import Place
from tests.testlib.agents.clocked import ClockedCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.connections import ConnectionPair
from tests.testlib.containers import ServingContainer
from tests.testlib.explained import explained
from tests.testlib.failures import LEASE_SECONDS, extra_cell, kill_all_parts, lease_kept, power_off, renumber
from tests.testlib.instance import TLS_PORT
from tests.testlib.kernel_changes import tables, undisturbed
from tests.testlib.names import leads
from tests.testlib.node import Connected, connect_at_once, one_datagram, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, policies
from tests.testlib.status import is_seen_alive, is_well, listed, name_of, peer

ALL = policies(f"from: same-org, to: {API}, tcp: any, udp: any", f"from: same-org, to: {OTHER}, tcp: any, udp: any")
FAR, NAME = "acme/shop/far", "api.shop.acme.cell.internal"
MEGABYTE = 1 << 20
PREFIX = "overlay.cell_prefix=30"
RENEWED = IPv4Address("10.77.0.143")


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return (PREFIX,)


def endpoints(cells: CellsUnderTest, number: int) -> str:
    """What the store says runs on a cell."""
    return cells.etcd.try_ctl("get", "--prefix", "--keys-only", f"/cellnet/v1/endpoints/{name_of(cells[number])}/").out.strip()


def ways(cell: CellUnderTest) -> dict[str, Sequence[str]]:
    """What leads to a cell's peers and lets them in."""
    found = tables(cell)
    return {
        kind: [line for line in found[kind] if "cnet" not in line] for kind in ("routes", "neighbours", "forwarding", "sets")
    }


def allowed(cells: CellsUnderTest) -> None:
    cells.allow("same-org", "acme/*/*", "tcp/any", "udp/any")


def test_a_cell_that_dies_takes_no_other_with_it_and_comes_back_as_it_was(cells: CellsUnderTest, place: Place) -> None:
    web, api, far = place(1, WEB), place(2, API, 8080), place(3, API, 8080, name="far")
    allowed(cells)
    tie, doomed = ConnectionPair(web, api), ConnectionPair(web, far)
    eventually(lambda: endpoints(cells, 3).endswith("/far"))
    eventually(lambda: leads(web, NAME, api, far))
    before, dead, living = listed(cells[1])[name_of(cells[3])], cells[3], (cells[1], cells[2])
    routes = [ways(each) for each in living]
    power_off(cells, 3)
    far.end()
    assert tie.go_on()
    with undisturbed(*living):
        eventually(lambda: not any(is_seen_alive(dead, by=each) for each in living), seconds=LEASE_SECONDS)
        assert endpoints(cells, 3) == ""
        eventually(lambda: leads(web, NAME, api))
        told = explained(cells[1], WEB, OTHER, "tcp/8080")
        assert f"the agent of {name_of(dead)} is not alive: what runs there is not known" in told
        assert tie.go_on()
        for each in living:
            eventually(lambda: is_well(each))
            seen = listed(each)[name_of(dead)]
            assert (seen["alive_since"], seen["subnet"], seen["underlay"]) == (None, before["subnet"], before["underlay"])
            assert {row["alive_since"] is None for name, row in listed(each).items() if name != name_of(dead)} == {False}
    cells.heal(3)
    dead.start()
    eventually(lambda: all(is_seen_alive(dead, by=each) for each in living))
    assert dead.status().at("cell").text("subnet") == before["subnet"]
    assert [ways(each) for each in living] == routes
    again = place(3, OTHER, 8080)
    assert again.address == far.address
    assert (connect_at_once(web, again, 8080), one_datagram(web, again, 8080)) == (Connected, Connected)
    assert tie.go_on()
    assert not doomed.go_on_again()


def test_a_dead_cell_that_is_removed_frees_its_place_and_comes_back_anew(cells: CellsUnderTest, place: Place) -> None:
    web, api, far = place(1, WEB), place(2, API, 8080), place(3, FAR, 8080)
    allowed(cells)
    tie, name = ConnectionPair(web, api), name_of(cells[3])
    subnet, kept = cells[3].status().at("cell").text("subnet"), ways(cells[1])
    power_off(cells, 3)
    far.end()
    assert cells.etcd.try_ctl("del", f"/cellnet/v1/cells/{name}/alive").code == 0  # as its lease will
    eventually(lambda: not is_seen_alive(cells[3], by=cells[2]))
    assert cells[2].cellnet("cell", "remove", name).out == f"removed {name}\n"
    for each in (cells[1], cells[2]):
        eventually(lambda: name not in listed(each) and subnet not in "".join(ways(each)["routes"]))
        assert str(cells[3].host.address) not in "".join(map("".join, ways(each).values()))
    assert tie.go_on()
    assert '"released"' in cells.etcd.try_ctl("get", f"/cellnet/v1/claims/subnets/{subnet.partition('/')[0]}").out
    with extra_cell(cells, 4, PREFIX) as fourth:  # it gets another part, though this one is free
        fourth.start()
        assert fourth.status().at("cell").text("subnet") != subnet
        assert connect_at_once(web, place(fourth, OTHER, 8080), 8080) is Connected
        kill_all_parts(fourth)
        assert cells.etcd.try_ctl("del", "/cellnet/v1/cells/cell-4/alive").code == 0
        eventually(lambda: cells[1].cellnet("cell", "remove", "cell-4", code=None).code == 0)
    cells.heal(3)
    cells[3].start()
    eventually(lambda: is_seen_alive(cells[3], by=cells[1]))
    eventually(lambda: ways(cells[1]) == kept)
    assert connect_at_once(web, place(3, OTHER, 8080), 8080) is Connected
    assert tie.go_on()


def test_a_cell_that_is_killed_and_started_at_once_is_never_missed(cells: CellsUnderTest, place: Place) -> None:
    web, far = place(1, WEB), place(3, API, 8080)
    allowed(cells)
    tie, since = ConnectionPair(web, far), listed(cells[1])[name_of(cells[3])]["alive_since"]
    eventually(lambda: endpoints(cells, 3) != "")
    with undisturbed(*cells), lease_kept(cells, 3):
        kill_all_parts(cells[3])
        assert tie.go_on()
        cells[3].start()
        assert tie.go_on()
    seen = listed(cells[1])[name_of(cells[3])]["alive_since"], endpoints(cells, 3).rpartition("/")[2]
    assert seen == (since, far.name)


def test_a_cell_whose_underlay_address_changes_is_followed_by_all(cells: CellsUnderTest, place: Place) -> None:
    web, api, far = place(1, WEB), place(2, API, 8080), place(3, OTHER, 8080)
    allowed(cells)
    ties, agents = (
        (ConnectionPair(web, api), ConnectionPair(web, far), ConnectionPair(far, api)),
        [each.agent_pid for each in cells],
    )
    old = cells[3].host.address
    for address, before in ((RENEWED, old), (old, RENEWED)):
        renumber(cells[3], address)
        for each in (cells[1], cells[2]):
            eventually(lambda: is_at(cells[3], str(address), to=each), seconds=60)
            eventually(lambda: f"{before} " not in senders(each))
            assert listed(each)[name_of(cells[3])]["alive_since"]
        assert ties[0].go_on()
        eventually(lambda: ties[1].go_on_again() and ties[2].go_on_again())
        assert [each.agent_pid for each in cells] == agents
        cells.wait_well()


def is_at(cell: CellUnderTest, underlay: str, *, to: CellUnderTest) -> bool:
    """Whether one cell is at this address as another one knows, and sends there."""
    found = peer(to, cell)
    return found is not None and found.text("underlay") == underlay and f"dst {underlay} " in "".join(ways(to)["forwarding"])


def senders(cell: CellUnderTest) -> str:
    """From whom it takes tunnelled packets."""
    return " ".join(f"{line} " for line in ways(cell)["sets"] if "cellnet-vteps" in line)


def test_an_underlay_that_carries_less_is_followed_by_tunnel_and_containers(cells: CellsUnderTest, place: Place) -> None:
    web, far = place(1, WEB), place(3, API, 8080)
    allowed(cells)
    tie, host = ConnectionPair(web, far), cells[3].host
    for underlay in (1400, 1500):
        host.run("ip", "link", "set", "eth0", "mtu", str(underlay))
        eventually(lambda: mtus(cells[3], far) == {underlay - 50})
        assert cells[3].status().at("cell").text("mtu") == str(underlay - 50)
        assert mtus(cells[1], web) == {1450}
        for client, server in ((web, far), (far, web)):
            sent = random.Random(underlay).randbytes(MEGABYTE)
            ends = pair(client, server, 9000)
            for one, other in (ends, ends[::-1]):
                assert arrives(one, other, sent)
        assert tie.go_on()


def mtus(cell: CellUnderTest, container: ServingContainer) -> set[int]:
    """The tunnel's, and those of both ends of a container's link."""
    at_host = [line for line in cell.host.run("ip", "-o", "link").splitlines() if "cnet" in line or "cellnet0" in line]
    inside = container.place.run("ip", "-o", "link", "show", "dev", container.interface).splitlines()
    return {int(line.split(" mtu ")[1].split()[0]) for line in (*at_host, *inside) if " mtu " in line}


def arrives(one: socket.socket, other: socket.socket, content: bytes) -> bool:
    """Whether all of it gets from one end to the other."""
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(one.sendall, content)
        got = b""
        while len(got) < len(content) and (more := other.recv(1 << 16)):
            got += more
        sending.result()
    return got == content


def test_a_cell_that_gives_anothers_address_as_its_own_is_left_out_and_named(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB, 8080), place(2, API)
    allowed(cells)
    tie, key = ConnectionPair(api, web), f"/cellnet/v1/cells/{name_of(cells[3])}/record"
    record = json.loads(cells.etcd.try_ctl("get", "--print-value-only", key).out)
    cells[3].kill("agent")
    assert cells.etcd.try_ctl("put", key, json.dumps(record | {"underlay": "10.77.0.1"})).code == 0
    why = f"{key} in etcd makes no sense: its underlay address 10.77.0.1 is that of cell {name_of(cells[1])}"
    eventually(lambda: all(why in each.cellnet("status", code=None).out for each in (cells[1], cells[2])))
    cells[2].sync()
    assert connect_at_once(api, web, 8080) is Connected
    assert tie.go_on()
    cells[3].start()
    cells.wait_well()


def test_a_machine_with_another_cells_name_is_refused_with_the_reason(cells: CellsUnderTest) -> None:
    """Another machine under a cell's name; behind a cell's address; with a copy of a cell's disk."""
    cells.sync()
    first, at = cells[1], "10.77.0.1"
    with undisturbed(*cells):
        with extra_cell(cells, 4, PREFIX, "cell=cell-1") as same_name:
            is_refused(same_name, "cell cell-1 is another machine", at, "give this one another name")
        with extra_cell(cells, 4, PREFIX, f"underlay.address={at}") as same_address:
            same_address.host.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")  # or it takes what is for the other
            same_address.host.run("ip", "link", "add", "other0", "type", "bridge")
            same_address.host.run("ip", "addr", "add", f"{at}/32", "dev", "other0")
            is_refused(same_address, f"cell cell-1 is alive behind the same underlay address {at}")
        with extra_cell(cells, 4, PREFIX) as copied:
            copy_disk(first, to=copied)
            is_refused(copied, f"this cell's id is that of cell cell-1, which is alive at {at}", "copy of that one")
        assert set(listed(first)) == set(map(name_of, cells))
        eventually(lambda: all(map(is_well, cells)))


def copy_disk(cell: CellUnderTest, *, to: CellUnderTest) -> None:
    """What another machine has that was cloned from a cell's while its agent ran."""
    there, here = (each.lab.root / "var/lib/cellnet" for each in (cell, to))
    shutil.copytree(there / "ca", here / "ca", dirs_exist_ok=True)
    with closing(sqlite3.connect(there / "cellnet.db")) as source, closing(sqlite3.connect(here / "cellnet.db")) as target:
        source.backup(target)


def is_refused(cell: CellUnderTest, *words: str) -> None:
    """It starts in vain, or in part where etcd was slow to answer, and `cellnet status` says why."""
    cell.start(well=False)

    found: list[str] = []

    def told() -> bool:
        done = cell.cellnet("status", code=None)
        found[:] = [done.out + done.err]
        return done.code != 0 and all(word in found[0] for word in words)

    try:
        eventually(told, seconds=60)
    except AssertionError as error:
        raise AssertionError(f"instead of {words}: {found[0]}") from error


def test_a_cell_with_a_wrong_clock_is_one_as_any_other(cells: CellsUnderTest, place: Place) -> None:
    """But that a certificate made ahead of time is good only then."""
    web = place(1, WEB, 8080)
    allowed(cells)
    with extra_cell(cells, 4, PREFIX, kind=ClockedCell) as fourth:
        lab = fourth.lab
        assert isinstance(lab, ClockedCell)
        lab.set_clock(timedelta(hours=1))
        fourth.start()
        far = place(fourth, API, 8080)
        fourth.sync()
        eventually(lambda: connect_at_once(far, web, 8080) is Connected)
        tie = ConnectionPair(web, far)
        for offset in (timedelta(hours=-1), timedelta(0)):
            eventually(lambda: is_seen_alive(fourth, by=cells[1]) and all(map(is_well, cells)))
            assert tie.go_on()
            assert connect_at_once(far, web, 8080) is Connected
            lab.set_clock(offset)
        with undisturbed(*cells):
            fourth.kill("agent")
            fourth.start()
            assert tie.go_on()
        assert connect_at_once(web, far, TLS_PORT) is Connected
        fourth.stop()
        far.end()
        assert cells.etcd.try_ctl("del", "/cellnet/v1/cells/cell-4/alive").code == 0
        eventually(lambda: cells[1].cellnet("cell", "remove", "cell-4", code=None).code == 0)
