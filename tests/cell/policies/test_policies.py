"""What policies let through, on the wire: exactly what they say, and nothing else."""

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Connected, Outcome, Refused, TimedOut, outcome_of, reachable_ports
from tests.testlib.shop import ALLOWED_SOURCES, SOURCE_APPS

TLS = 61443


def one(*parts: str) -> str:
    """A policy file of one policy."""
    return "policies:\n- {" + ", ".join(parts) + "}\n"


def test_without_a_policy_everything_is_refused_at_once(cell: CellUnderTest) -> None:
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    for client, server in ((web, api), (api, web)):
        assert reachable_ports(client, server, (8080, 22, 1, 65535, TLS)) == set()
        assert reachable_ports(client, server, (8080, 53), over="udp") == set()


def test_a_container_always_reaches_itself(cell: CellUnderTest) -> None:
    (api,) = cell.containers("acme/shop/api")
    for itself in (api.address, "127.0.0.1"):
        assert (api.connect(itself, 8080), api.udp(itself, 8080)) == (Connected, Connected)
    assert api.get_tls(api) == f"hello {api.address}\n"


def test_a_policy_opens_one_port_in_one_direction_for_one_source(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web", port=[8080, 8081], server=True)
    api = cell.run_app("acme/shop/api", port=[8079, 8080, 8081], server=True)
    third = cell.run_app("acme/shop/third", port=8080, server=True)
    cell.policy_file("shop.yaml", one("from: acme/shop/web", "to: acme/shop/api", "tcp: 8080"))
    assert reachable_ports(web, api, (8079, 8080, 8081, TLS)) == {8080}
    assert reachable_ports(web, api, (8080, 8081), over="udp") == set()
    assert reachable_ports(api, web, (8080, 8081, TLS)) == set()
    assert reachable_ports(third, api, (8079, 8080, 8081, TLS)) == set()
    assert reachable_ports(web, third, (8080, TLS)) == set()


def test_a_range_has_its_edges_in_and_its_neighbours_out(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    api = cell.run_app("acme/shop/api", port=[8999, 9000, 9005, 9010, 9011, 65535], server=True)
    cell.policy_file("shop.yaml", one("from: acme/shop/web", "to: acme/shop/api", "tcp: [9000-9010, 65535]", "udp: 9005-9010"))
    assert reachable_ports(web, api, (8999, 9000, 9005, 9010, 9011, 65535)) == {9000, 9005, 9010, 65535}
    assert reachable_ports(web, api, (8999, 9000, 9005, 9010, 9011), over="udp") == {9005, 9010}


def test_a_udp_policy_opens_no_tcp_and_a_tcp_policy_no_udp(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    api = cell.run_app("acme/shop/api", port=[53, 80], server=True)
    cell.policy_file("shop.yaml", one("from: acme/shop/web", "to: acme/shop/api", "udp: 53", "tcp: 80"))
    assert reachable_ports(web, api, (53, 80)) == {80}
    assert reachable_ports(web, api, (53, 80), over="udp") == {53}


def test_an_echo_is_a_right_of_its_own(cell: CellUnderTest) -> None:
    web, third, api = cell.containers("acme/shop/web", "acme/shop/third", "acme/shop/api")
    assert web.ping(api) is Refused
    cell.policy_file("shop.yaml", one("from: acme/shop/web", "to: acme/shop/api", "icmp: echo"))
    assert web.ping(api) is Connected
    assert (third.ping(api), api.ping(web)) == (Refused, Refused)
    assert reachable_ports(web, api, (8080, 22)) == set()
    assert "icmp/echo" in cell.cellnet("policy", "list").out
    cell.cellnet("policy", "check", "acme/shop/web", "acme/shop/api", "icmp/echo")
    cell.policy_file("shop.yaml", one("from: acme/shop/web", "to: acme/shop/api", "tcp: any", "udp: any"))
    assert web.ping(api) is Refused, "of its flow nothing is left"
    cell.cellnet("policy", "allow", "acme/shop/third", "acme/shop/api", "icmp/echo")
    assert third.ping(api) is Connected
    cell.cellnet("policy", "delete", "acme/shop/third", "acme/shop/api", "icmp/echo")
    assert third.ping(api) is Refused
    assert f"1 flow of acme/shop/third ({third.address}) to acme/shop/api ({api.address}) icmp/echo" in cell.log


def test_any_is_every_port_of_its_protocol_alone(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    api = cell.run_app("acme/shop/api", port=[1, 8080, 65535], server=True)
    cell.policy_file("shop.yaml", one("from: acme/shop/web", "to: acme/shop/api", "tcp: any"))
    assert reachable_ports(web, api, (1, 8080, TLS, 65535)) == {1, 8080, TLS, 65535}
    assert reachable_ports(web, api, (1, 8080, 65535), over="udp") == set()


def test_the_port_of_the_app_and_the_tls_port_are_opened_apart(cell: CellUnderTest) -> None:
    web, other = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/other")
    (api,) = cell.containers("acme/shop/api")
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    cell.allow("acme/shop/other", "acme/shop/api", f"tcp/{TLS}")
    assert reachable_ports(web, api, (8080, TLS)) == {8080}
    assert reachable_ports(other, api, (8080, TLS)) == {TLS}
    assert other.get_tls(api) == f"hello {other.address}\n"


def test_scopes_lists_and_wildcards_mean_what_they_say(cell: CellUnderTest) -> None:
    """One destination app for each way to name sources; five sources near and far."""
    sources = {app: cell.run_app(app, name=app.replace("/", "-")) for app in SOURCE_APPS}
    servers, lines = {}, ["policies:"]
    for number, words in enumerate(ALLOWED_SOURCES):
        servers[words] = cell.run_app(f"acme/shop/to-{number}", port=8080, server=True)
        lines.append(f"- {{from: {words}, to: acme/shop/to-{number}, tcp: 8080}}")
    cell.policy_file("scopes.yaml", "\n".join(lines) + "\n")
    for words, server in servers.items():
        assert {app for app, client in sources.items() if reachable_ports(client, server, (8080,))} == ALLOWED_SOURCES[words], (
            words
        )


def test_a_wildcard_destination_is_every_app_of_the_space(cell: CellUnderTest) -> None:
    web, api, bank = cell.containers("acme/shop/web", "acme/shop/api", "acme/bank/vault")
    cell.policy_file("shop.yaml", one("from: same-space", "to: acme/shop/*", "tcp: 8080"))
    assert reachable_ports(web, api, (8080,)) == reachable_ports(api, web, (8080,)) == {8080}
    assert reachable_ports(web, bank, (8080,)) == reachable_ports(bank, web, (8080,)) == set()


def test_an_app_that_arrives_later_is_covered_by_scopes(cell: CellUnderTest) -> None:
    (api,) = cell.containers("acme/shop/api")
    cell.policy_file("shop.yaml", one("from: same-org", "to: acme/shop/*", "tcp: 8080"))
    late, stranger = cell.run_app("acme/bank/late"), cell.run_app("other/bank/late", name="stranger")
    assert reachable_ports(late, api, (8080,)) == {8080}
    assert reachable_ports(stranger, api, (8080,)) == set()


def test_instances_of_one_app_reach_each_other_where_from_is_to(cell: CellUnderTest) -> None:
    first = cell.run_app("acme/shop/db", name="db-0", port=8080, server=True)
    second = cell.run_app("acme/shop/db", name="db-1", port=8080, server=True)
    assert reachable_ports(first, second, (8080,)) == reachable_ports(second, first, (8080,)) == set()
    cell.policy_file("db.yaml", one("from: acme/shop/db", "to: acme/shop/db", "tcp: 8080"))
    assert reachable_ports(first, second, (8080,)) == reachable_ports(second, first, (8080,)) == {8080}


def test_every_instance_of_source_and_destination_is_meant(cell: CellUnderTest) -> None:
    clients = [cell.run_app("acme/shop/web", name=f"web-{number}") for number in range(2)]
    servers = [cell.run_app("acme/shop/api", name=f"api-{number}", port=8080, server=True) for number in range(2)]
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    assert {reachable_ports(client, server, (8080,)).pop() for client in clients for server in servers} == {8080}


def test_files_and_store_add_up(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    api = cell.run_app("acme/shop/api", port=[8080, 8081, 8082], server=True)
    cell.policy_file("a.yaml", one("from: acme/shop/web", "to: acme/shop/api", "tcp: 8080"))
    cell.policy_file("b.yaml", one("from: acme/shop/web", "to: acme/shop/api", "tcp: 8080-8081"))
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8082")
    assert reachable_ports(web, api, (8080, 8081, 8082)) == {8080, 8081, 8082}
    cell.remove_policy_file("b.yaml")
    assert reachable_ports(web, api, (8080, 8081, 8082)) == {8080, 8082}


def test_a_udp_flow_that_was_revoked_and_is_allowed_again_works_at_once(cell: CellUnderTest) -> None:
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    sender = web.datagrams()
    sender.connect((str(api.address), 8080))

    def exchange() -> Outcome:
        """One datagram of the same flow, there and back; again where the kernel reported no refusal."""
        for _ in range(5):
            found = outcome_of(lambda: (sender.send(b"?"), sender.recv(16)))
            if found is not TimedOut:
                return found
        return TimedOut

    sender.settimeout(0.5)
    for _ in range(5):
        cell.policy_file("udp.yaml", one("from: acme/shop/web", "to: acme/shop/api", "udp: 8080"))
        sender.settimeout(5.0)
        assert outcome_of(lambda: (sender.send(b"?"), sender.recv(16))) is Connected
        cell.remove_policy_file("udp.yaml")
        sender.settimeout(0.5)
        assert exchange() is Refused


@pytest.mark.parametrize("allowed", ["tcp/8080", "udp/8080"])
def test_a_reply_passes_and_nothing_else_comes_back(cell: CellUnderTest, allowed: str) -> None:
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    cell.allow("acme/shop/web", "acme/shop/api", allowed)
    over = allowed.partition("/")[0]
    assert reachable_ports(web, api, (8080,), over=over) == {8080}
    assert reachable_ports(api, web, (8080,), over=over) == set()
