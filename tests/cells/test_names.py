"""Names of apps over three cells: they follow instances wherever these are, and no cell takes another's."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address

import pytest

from agent.client.answer import Fields
from agent.client.connection import attachment_address
from agent.errors import Conflict, Unavailable
from agent.model.names import AppName
from agent.store.etcd.keys import Keys
from tests.cells.conftest import Place
from tests.testlib.cell import CellUnderTest
from tests.testlib.cells import CellsUnderTest
from tests.testlib.containers import ServingContainer
from tests.testlib.failures import kill_all_parts
from tests.testlib.names import certified_names, is_unknown, leads
from tests.testlib.netns import Netns
from tests.testlib.node import Node
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB
from tests.testlib.status import name_of, reports

NAME, ROUTE = "api.shop.acme.cell.internal", "backend.apps.internal"
FOREIGN = "acme/other/web"
MINE, THEIRS, FLAT = "acme/shop/mine", "acme/other/mine", "mine.flat.example"


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("routes.claim_at_attach=true", "dns.names=['{app}.flat.example']")


@pytest.fixture
def callers(cells: CellsUnderTest, place: Place) -> list[ServingContainer]:
    """One container a cell, that asks."""
    return [place(each.lab.number, "acme/ask/er", name=f"asks-{each.lab.number}") for each in cells]


def all_lead(callers: Sequence[Node], name: str, *to: Node) -> bool:
    """Whether a name leads to exactly these, wherever it is asked for."""
    return all(leads(each, name, *to) for each in callers)


def nobody_knows(callers: Sequence[Node], name: str) -> bool:
    return all(is_unknown(each, name) for each in callers)


def attached(cell: CellUnderTest, name: str) -> Fields:
    return next(each for each in cell.client.get("/v1/attachments").each() if each.text("name") == name)


def ask_for(cell: CellUnderTest, place: Netns, app: str, **fields: object) -> Fields:
    """An attach through the API."""
    body = {"app": app, "netns": str(place.path), **fields}
    return cell.client.ask("PUT", attachment_address(place.name), body).fields  # type: ignore[arg-type]


def test_names_follow_instances_on_all_cells_and_each_has_a_number_of_its_own(
    cells: CellsUnderTest, place: Place, callers: list[ServingContainer]
) -> None:
    first, second, third = (place(number, API, 8080, name=f"api-{number}") for number in (1, 2, 3))
    eventually(lambda: all_lead(callers, NAME, first, second, third))
    numbers = {each: attached(each.cell, each.name).text("instance") for each in (first, second, third)}
    assert sorted(numbers.values()) == ["0", "1", "2"]
    for each, number in numbers.items():
        assert all_lead(callers, f"{number}.{NAME}", each)
    second.end_server()  # it is attached still, and serves no more
    eventually(lambda: all_lead(callers, NAME, first, third))
    third.end()
    eventually(lambda: all_lead(callers, NAME, first))
    claim = Keys("/cellnet").index(AppName.parse(API), int(numbers[third]))
    eventually(lambda: not cells.etcd.try_ctl("get", "--print-value-only", claim).out)
    cells.sync()
    again = place(1, API, 8080, name="again")
    eventually(lambda: all_lead(callers, NAME, first, again))
    assert attached(cells[1], "again").text("instance") == numbers[third]  # the lowest that is free again
    with pytest.raises(Conflict, match="instance 0 of acme/shop/api is taken"):
        ask_for(cells[2], first.place, API, instance=0)


def test_a_route_that_is_mapped_anywhere_is_in_force_everywhere_and_no_connection_ends(
    cells: CellsUnderTest, place: Place, callers: list[ServingContainer]
) -> None:
    api = place(2, API, 8080)
    cells.allow("same-org", API, "tcp/61443")
    eventually(lambda: all_lead(callers, NAME, api))
    stream = callers[0].dial_tls(api)
    stream.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
    for _ in range(3):
        cells[1].client.put(f"/v1/routes/{ROUTE}", {"app": API})
        assert leads(callers[0], ROUTE, api)
        eventually(lambda: all_lead(callers, ROUTE, api))
        eventually(lambda: ROUTE in certified_names(callers[2], api))
        assert stream.recv(100)
        cells[3].client.delete(f"/v1/routes/{ROUTE}", {"app": API})
        assert is_unknown(callers[2], ROUTE)
        eventually(lambda: nobody_knows(callers, ROUTE))
        eventually(lambda: ROUTE not in certified_names(callers[0], api))
        assert stream.recv(100)


def test_of_two_spaces_that_race_for_a_route_one_has_it_in_answers_and_certificates(
    cells: CellsUnderTest, callers: list[ServingContainer], netns: Callable[[str], Netns]
) -> None:
    cells.allow("same-org", "acme/*/*", "tcp/61443")
    places = [netns("race") for _ in range(4)]
    asked = [(cells[1], WEB), (cells[2], FOREIGN), (cells[3], WEB), (cells[3], FOREIGN)]
    for turn in range(3):
        host = f"race-{turn}.apps.internal"

        def attempt(number: int) -> Fields | None:
            with suppress(Conflict):
                return ask_for(asked[number][0], places[number], asked[number][1], routes=(host,), ports=())
            return None

        with ThreadPoolExecutor() as pool:
            found = list(pool.map(attempt, range(4)))
        won = [each for each in found if each is not None]
        assert {each.text("app") for each in won} in ({WEB}, {FOREIGN})
        nodes = [Node(places[0].path, address=_address(each)) for each in won]
        eventually(lambda: all_lead(callers, host, *nodes))
        for each in nodes:
            eventually(lambda: host in certified_names(callers[0], each))
        for number, place in enumerate(places):
            asked[number][0].client.delete(attachment_address(place.name))


def _address(found: Fields) -> IPv4Address:
    return IPv4Address(found.text("address"))


def test_a_cell_that_rewrites_or_deletes_anothers_claims_changes_nothing_elsewhere(
    cells: CellsUnderTest, place: Place, callers: list[ServingContainer], netns: Callable[[str], Netns]
) -> None:
    cells.allow("same-org", "acme/*/*", "tcp/61443")
    inside, keys = netns("claims"), Keys("/cellnet")
    theirs = (keys.claimed_route(ROUTE), keys.claimed_name(FLAT))
    try:
        web = Node(inside.path, address=_address(ask_for(cells[1], inside, MINE, routes=(ROUTE,), ports=())))
        foreign = place(3, THEIRS)
        eventually(lambda: all_lead(callers, ROUTE, web) and all_lead(callers, FLAT, web))
        for key in theirs:
            content = cells.etcd.try_ctl("get", "--print-value-only", key).out
            lie = content.replace("acme/shop", "acme/other")
            assert lie != content
            assert json.loads(lie)
            assert cells.etcd.try_ctl("put", key, lie).code == 0
        cells.sync()
        for each in (cells[1], cells[2]):
            eventually(lambda: reports(each, "store", f"{theirs[0]} in etcd is left out"))
        assert all_lead(callers, ROUTE, web)
        assert all_lead(callers, FLAT, web)
        for key in theirs:
            assert cells.etcd.try_ctl("del", key).code == 0
        cells.sync()
        assert all_lead(callers, ROUTE, web)
        assert all_lead(callers, FLAT, web)
        assert {ROUTE, FLAT} <= set(certified_names(callers[1], web))
        assert not {ROUTE, FLAT} & set(certified_names(callers[1], foreign))
    finally:
        cells[1].client.delete(attachment_address(inside.name))
        for name in (ROUTE, FLAT):
            cells[1].client.delete(f"/v1/routes/{name}")  # or it would be the space's for a while, with a line in the status


def test_a_cell_that_dies_leaves_the_answers_with_its_instances(
    cells: CellsUnderTest, place: Place, callers: list[ServingContainer]
) -> None:
    near, far = place(1, API, 8080), place(3, API, 8080, name="far")
    eventually(lambda: all_lead(callers, NAME, near, far))
    kill_all_parts(cells[3])
    assert leads(callers[0], NAME, near, far)
    assert cells.etcd.try_ctl("del", f"/cellnet/v1/cells/{name_of(cells[3])}/alive").code == 0  # as its lease will
    eventually(lambda: all_lead(callers[:2], NAME, near))
    cells[3].start()
    eventually(lambda: all_lead(callers, NAME, near, far))


def test_without_etcd_names_stay_new_instances_are_named_here_and_new_routes_are_refused(
    cells: CellsUnderTest, place: Place, callers: list[ServingContainer], netns: Callable[[str], Netns]
) -> None:
    near, far = place(1, API, 8080), place(3, API, 8080, name="far")
    cells[1].client.put(f"/v1/routes/{ROUTE}", {"app": API})
    cells.allow("same-org", "acme/*/*", "tcp/61443")
    eventually(lambda: all_lead(callers, ROUTE, near, far))
    cells.etcd.kill()
    eventually(lambda: reports(cells[1], "store", "etcd"), seconds=60)
    cells[1].kill("agent", again=True)
    other = netns("other")
    try:
        eventually(lambda: reports(cells[1], "store", "etcd"), seconds=60)  # of the new agent
        with pytest.raises(Unavailable):
            ask_for(cells[1], other, API, routes=("new.apps.internal",), ports=())
        made = ask_for(cells[1], other, API, routes=(ROUTE,), ports=())
        new = Node(other.path, address=_address(made))
        number = made.text("instance")
        assert number not in {attached(each.cell, each.name).text("instance") for each in (near, far)}
        eventually(lambda: leads(callers[0], ROUTE, near, far, new) and leads(callers[0], f"{number}.{NAME}", new))
        assert all_lead(callers[1:], ROUTE, near, far)
        assert ROUTE in certified_names(callers[0], new)
        cells.etcd.start()
        eventually(lambda: all_lead(callers, ROUTE, near, far, new), seconds=60)
        cells.wait_well()
    finally:
        cells.etcd.start()
        cells[1].client.delete(attachment_address(other.name))
