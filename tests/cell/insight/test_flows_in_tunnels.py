"""Streams in tunnels of mutual TLS are listed and told as flows of apps, and each of them once."""

from collections.abc import Sequence
from functools import partial

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.event_stream import EventStream
from tests.testlib.node import pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, web_to_api


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


def test_a_stream_is_listed_once_and_told_once(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("name: shop, tcp: 9000"))
    with EventStream(cell.client.path) as told:
        asking, answering = pair(web, api, 9000)
        eventually(lambda: told.of("new", tunnel=True))
        eventually(lambda: list(cell.client.get("/v1/flows", port="tcp/9000").at("flows").each()))  # a look holds for a second
        (flow,) = cell.client.get("/v1/flows", port="tcp/9000").at("flows").each()
        assert (flow.text("from"), flow.text("to"), flow.text("policy"), flow.text("state")) == (WEB, API, "shop", "open")
        assert flow.flag("tunnel")
        asking.close()
        answering.close()
        eventually(lambda: told.of("ended", tunnel=True))
        assert [(each["from"], each["to"], each["port"]) for each in told.of("new")] == [(WEB, API, 9000)]
        assert len(told.of("ended")) == 1


def test_a_stream_that_is_cut_is_told_as_cut_alone(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API)
    cell.policy_file("shop.yaml", web_to_api("tcp: [9000, 9001]"))
    with EventStream(cell.client.path) as told:
        pair(web, api, 9000)
        asking, answering = pair(web, api, 9001)
        eventually(lambda: len(told.of("new")) == 2)
        cell.policy_file("shop.yaml", web_to_api("tcp: 9001"))
        eventually(lambda: told.of("cut", **{"from": WEB}, to=API, port=9000, tunnel=True, count=1))
        asking.close()
        answering.close()
        eventually(lambda: told.of("ended", port=9001))
        assert not told.of("ended", port=9000)


def test_a_container_that_comes_later_is_heard_of_too(cell: CellUnderTest) -> None:
    with EventStream(cell.client.path) as told:
        web, api = cell.run_app(WEB), cell.run_app(API)
        cell.policy_file("shop.yaml", web_to_api("tcp: 9000"))

        def called() -> bool:
            pair(web, api, 9000)
            return bool(told.of("new", tunnel=True))

        eventually(called)


def test_who_follows_beside_another_is_told_of_the_latest_containers_from_the_first_call_on(cell: CellUnderTest) -> None:
    cell.policy_file("shop.yaml", web_to_api("tcp: 9000"))
    with EventStream(cell.client.path):
        for number in range(3):
            web, api = cell.run_app(WEB, name=f"web-{number}"), cell.run_app(API, name=f"api-{number}")
            with EventStream(cell.client.path) as told:
                pair(web, api, 9000)
                eventually(partial(told.of, "new", tunnel=True))


def test_containers_are_listened_in_only_while_somebody_follows(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)

    def is_heard() -> bool:
        lines = [line.split() for line in web.run("cat", "/proc/net/netlink").splitlines()[1:]]
        return any(each[1] == "12" and int(each[3], 16) for each in lines)

    eventually(lambda: not is_heard())  # or who followed until now is not known to have gone
    with EventStream(cell.client.path):
        eventually(is_heard)
    eventually(lambda: not is_heard())
