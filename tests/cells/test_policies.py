"""What policies let through between cells, on the wire: exactly what they say, judged where the packet ends."""

import pytest

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.failures import suspended
from tests.testlib.instance import TLS_PORT
from tests.testlib.node import Connected, Refused, connect_at_once, one_datagram, reachable_ports
from tests.testlib.patience import eventually
from tests.testlib.shop import ALLOWED_SOURCES, API, OTHER, SOURCE_APPS, WEB, policies, web_to_api


def test_without_a_policy_everything_is_refused_at_once(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB, 8080), place(2, API, 8080)
    for client, server in ((web, api), (api, web)):
        assert reachable_ports(client, server, (8080, 22, 1, 65535, TLS_PORT)) == set()
        assert reachable_ports(client, server, (8080, 53), over="udp") == set()


def test_a_policy_opens_one_port_of_one_protocol_in_one_direction_for_one_source(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB, 8080, 8081), place(2, API, 8079, 8080, 8081)
    third, near, far = place(3, OTHER, 8080), place(2, "acme/shop/near"), place(1, "acme/shop/far")
    cells[2].policy_file("shop.yaml", web_to_api("tcp: 8080"))
    assert reachable_ports(web, api, (8079, 8080, 8081, TLS_PORT)) == {8080}
    assert reachable_ports(web, api, (8080, 8081), over="udp") == set()
    assert reachable_ports(api, web, (8080, 8081, TLS_PORT)) == set()
    assert reachable_ports(api, web, (8080,), over="udp") == set()
    for stranger in (third, near, far):
        assert reachable_ports(stranger, api, (8079, 8080, 8081, TLS_PORT)) == set(), stranger.name
    assert reachable_ports(web, third, (8080, TLS_PORT)) == set()


def test_the_file_of_the_destinations_cell_decides_and_no_other(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080)
    for elsewhere in (1, 3):
        cells[elsewhere].policy_file("shop.yaml", web_to_api("tcp: [8080, 61443]", "udp: 8080"))
    cells.sync()
    assert reachable_ports(web, api, (8080, TLS_PORT)) == set()
    assert reachable_ports(web, api, (8080,), over="udp") == set()
    again = place(3, API, 8080)
    assert reachable_ports(web, again, (8080, TLS_PORT)) == {8080, TLS_PORT}
    cells[2].policy_file("shop.yaml", web_to_api("tcp: 8080"))
    for elsewhere in (1, 3):
        cells[elsewhere].remove_policy_file("shop.yaml")
    assert reachable_ports(web, api, (8080, TLS_PORT)) == {8080}
    assert reachable_ports(web, again, (8080, TLS_PORT)) == set()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_policy_of_the_store_holds_on_all_cells_wherever_it_was_given(cells: CellsUnderTest, place: Place, at: int) -> None:
    clients = [place(number, WEB, name=f"web-{number}") for number in (1, 2, 3)]
    servers = [place(number, API, 8080, name=f"api-{number}") for number in (1, 2, 3)]
    assert {connect_at_once(client, server, 8080) for client in clients for server in servers} == {Refused}
    cells.allow(WEB, API, "tcp/8080", at=at)
    assert {connect_at_once(client, server, 8080) for client in clients for server in servers} == {Connected}
    assert {connect_at_once(server, client, 8080) for client in clients for server in servers} == {Refused}


def test_files_and_store_add_up(cells: CellsUnderTest, place: Place) -> None:
    web, api = place(1, WEB), place(2, API, 8080, 8081, 8082)
    cells[2].policy_file("a.yaml", web_to_api("tcp: 8080"))
    cells[2].policy_file("b.yaml", web_to_api("tcp: 8080-8081"))
    cells.allow(WEB, API, "tcp/8082", at=3)
    assert reachable_ports(web, api, (8080, 8081, 8082)) == {8080, 8081, 8082}
    cells[2].remove_policy_file("b.yaml")
    assert reachable_ports(web, api, (8080, 8081, 8082)) == {8080, 8082}
    cells[1].cellnet("policy", "delete", WEB, API, "tcp/8082")
    cells.sync()
    assert reachable_ports(web, api, (8080, 8081, 8082)) == {8080}


def test_ranges_protocols_and_any_mean_the_same_as_on_one_cell(cells: CellsUnderTest, place: Place) -> None:
    web = place(1, WEB)
    api = place(2, API, 8999, 9000, 9005, 9010, 9011, 65535)
    apart, every = place(2, "acme/shop/apart", 53, 80), place(3, "acme/shop/every", 1, 8080, 65535)
    rules = (
        web_to_api("tcp: [9000-9010, 65535], udp: 9005-9010") + f"- {{from: {WEB}, to: acme/shop/apart, udp: 53, tcp: 80}}\n"
    )
    cells[2].policy_file("shop.yaml", rules)
    cells[3].policy_file("shop.yaml", policies(f"from: {WEB}, to: acme/shop/every, tcp: any"))
    assert reachable_ports(web, api, (8999, 9000, 9005, 9010, 9011, 65535)) == {9000, 9005, 9010, 65535}
    assert reachable_ports(web, api, (8999, 9000, 9005, 9010, 9011), over="udp") == {9005, 9010}
    assert (reachable_ports(web, apart, (53, 80)), reachable_ports(web, apart, (53, 80), over="udp")) == ({80}, {53})
    assert reachable_ports(web, every, (1, 8080, TLS_PORT, 65535)) == {1, 8080, TLS_PORT, 65535}
    assert reachable_ports(web, every, (1, 8080, 65535), over="udp") == set()


def test_scopes_lists_and_wildcards_mean_what_they_say(cells: CellsUnderTest, place: Place) -> None:
    """One destination app for each way to name sources; sources near and far in name, and on two cells."""
    sources = {app: place(1 + 2 * (number % 2), app, name=app.replace("/", "-")) for number, app in enumerate(SOURCE_APPS)}
    servers = {words: place(2, f"acme/shop/to-{number}", 8080) for number, words in enumerate(ALLOWED_SOURCES)}
    rules = (f"from: {words}, to: acme/shop/to-{number}, tcp: 8080" for number, words in enumerate(ALLOWED_SOURCES))
    cells[2].policy_file("scopes.yaml", policies(*rules))
    for words, server in servers.items():
        assert {app for app, client in sources.items() if reachable_ports(client, server, (8080,))} == ALLOWED_SOURCES[words], (
            words
        )


def test_a_scope_of_the_store_holds_between_all_cells(cells: CellsUnderTest, place: Place) -> None:
    shop = [place(number, f"acme/shop/app-{number}", 8080) for number in (1, 2, 3)]
    bank = place(3, "acme/bank/vault", 8080)
    cells.allow("same-space", "acme/shop/*", "tcp/8080", at=2)
    assert all(reachable_ports(one, other, (8080,)) == {8080} for one in shop for other in shop if one is not other)
    assert all(reachable_ports(one, bank, (8080,)) == reachable_ports(bank, one, (8080,)) == set() for one in shop)


def test_instances_of_one_app_reach_each_other_where_from_is_to(cells: CellsUnderTest, place: Place) -> None:
    first, second = place(1, "acme/shop/db", 8080), place(2, "acme/shop/db", 8080)
    assert reachable_ports(first, second, (8080,)) == reachable_ports(second, first, (8080,)) == set()
    cells.allow("acme/shop/db", "acme/shop/db", "tcp/8080")
    assert reachable_ports(first, second, (8080,)) == reachable_ports(second, first, (8080,)) == {8080}


@pytest.mark.parametrize("allowed", ["tcp/8080", "udp/8080"])
def test_a_reply_passes_and_nothing_else_comes_back(cells: CellsUnderTest, place: Place, allowed: str) -> None:
    web, api = place(1, WEB, 8080), place(2, API, 8080)
    cells.allow(WEB, API, allowed)
    over = allowed.partition("/")[0]
    assert reachable_ports(web, api, (8080,), over=over) == {8080}
    assert reachable_ports(api, web, (8080,), over=over) == set()


# the first packet


@pytest.mark.parametrize("given", ["a file", "the store"])
def test_a_first_instance_of_an_app_that_a_policy_names_passes_at_its_first_packet(
    cells: CellsUnderTest, place: Place, given: str
) -> None:
    """From cells where that app has never run. The destination's agent stands still, so it must have known before."""
    api = place(2, API, 8080)
    word = given.replace(" ", "-")
    sources = [f"acme/{word}/source-{number}" for number in range(4)]
    if given == "a file":
        cells[2].policy_file("new.yaml", policies(f"from: [{', '.join(sources)}], to: {API}, tcp: 8080, udp: 8080"))
    else:
        for source in sources[:-1]:
            cells[3].cellnet("policy", "allow", source, API, "tcp/8080", "udp/8080")
        cells.allow(sources[-1], API, "tcp/8080", "udp/8080", at=3)
    with suspended(cells[2].agent_pid):
        for number, source in enumerate(sources):
            call = one_datagram if number % 2 else connect_at_once
            assert call(place(1 + 2 * (number // 2), source), api, 8080) is Connected, source


@pytest.mark.parametrize("outage", ["killed", "frozen"])
def test_a_first_instance_passes_at_its_first_packet_while_etcd_is_away(
    cells: CellsUnderTest, place: Place, outage: str
) -> None:
    api, stranger = place(2, API, 8080), place(1, OTHER)
    source = f"acme/shop/while-{outage}"
    cells.allow(source, API, "tcp/8080", "udp/8080", at=3)
    cells.etcd.kill() if outage == "killed" else cells.etcd.freeze()
    assert connect_at_once(place(1, source), api, 8080) is Connected
    assert one_datagram(place(3, source), api, 8080) is Connected
    assert (connect_at_once(stranger, api, 8080), stranger.udp(api, 8080)) == (Refused, Refused)


def test_an_app_that_only_a_scope_allows_passes_once_its_tag_has_spread(cells: CellsUnderTest, place: Place) -> None:
    api = place(2, API, 8080)
    cells[2].policy_file("all.yaml", policies(f"from: same-org, to: {API}, tcp: 8080, udp: 8080"))
    for number in (1, 3):
        late, stranger = place(number, f"acme/late/app-{number}"), place(number, f"foreign/late/app-{number}", name="stranger")
        eventually(lambda: reachable_ports(late, api, (8080,)))  # refused until then, never silent
        assert (one_datagram(late, api, 8080), connect_at_once(stranger, api, 8080)) == (Connected, Refused)
