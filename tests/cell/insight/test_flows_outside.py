"""What flows between containers and all else is listed with what allows it: policies, published ports, services of the host."""

from collections.abc import Sequence
from ipaddress import IPv4Address

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.event_stream import Event, EventStream
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB

SERVICE = 9100
PUBLISHED = 8088


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return (f"host_services=[{{protocol: tcp, port: {SERVICE}}}]",)


def listed(cell: CellUnderTest, **query: str) -> list[Event]:
    return [dict(each.fields) for each in cell.client.get("/v1/flows", **query).at("flows").each()]


def count(cell: CellUnderTest, setting: str) -> None:
    cell.host.run("sysctl", "-qw", f"net.netfilter.nf_conntrack_{setting}=1")


def test_what_leaves_is_listed_by_the_policy_and_counted_where_the_kernel_counts(cell: CellUnderTest) -> None:
    for setting in ("acct", "timestamp"):
        count(cell, setting)
    web, there = cell.run_app(WEB), str(cell.outside.address)
    cell.policy_file("out.yaml", f"policies: [{{name: out, from: {WEB}, to: {{cidr: {there}}}, tcp: 9000}}]\n")
    listening = cell.outside.listen(9000)
    with EventStream(cell.client.path, "?kind=new") as told:
        asking = web.dial(cell.outside, 9000)
        answering, _ = listening.accept()
        eventually(lambda: told.of("new", **{"from": WEB}, to=there, port=9000, policy="out"))
    asking.sendall(b"x" * 1_000)
    eventually(lambda: [each for each in listed(cell, app=WEB, to=there) if each["sent"] > 1_000])
    (flow,) = listed(cell, app=WEB, to=there)
    assert (flow["policy"], flow["origin"].rpartition("/")[2]) == ("out", "out.yaml:1")
    assert 0 < flow["received"] < 1_000
    assert flow["seconds"] >= 0
    answering.close()
    assert "is not counted" not in cell.cellnet("flows").err


def test_what_comes_in_by_a_published_port_is_listed_with_the_port_of_the_container(cell: CellUnderTest) -> None:
    api, source = cell.run_app(API, server=True, options=[f"--publish={PUBLISHED}:8080"]), str(cell.outside.address)
    cell.policy_file("in.yaml", f"policies: [{{name: in, from: {{cidr: {source}}}, to: {API}, tcp: 8080}}]\n")
    cell.outside.dial(cell.host, PUBLISHED)
    eventually(lambda: listed(cell, to=API))
    (flow,) = listed(cell, to=API)
    assert (flow["from"], flow["port"], flow["to_address"], flow["policy"]) == (source, 8080, str(api.address), "in")


def test_what_is_no_policys_is_listed_with_what_allows_it(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB, server=True)
    cell.host.listen(SERVICE)
    web.dial(cell.host, SERVICE)
    cell.host.dial(web, 8080)
    eventually(lambda: len(listed(cell, app=WEB)) == 2)
    found = {(each["from"], each["to"], each["port"]): (each["policy"], each["origin"]) for each in listed(cell, app=WEB)}
    host = str(cell.host.address)
    assert found[WEB, host, SERVICE] == ("", "host_services")
    ((source, _, _),) = found.keys() - {(WEB, host, SERVICE)}
    assert found[source, WEB, 8080] == ("", "this host")


def test_questions_for_names_are_left_out(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    web.dial(IPv4Address("169.254.0.2"), 53)  # those over UDP the kernel does not follow at all
    cell.host.listen(SERVICE)
    web.dial(cell.host, SERVICE)
    address = str(web.address)
    eventually(lambda: [each for each in listed(cell, port=f"tcp/{SERVICE}") if each["from_address"] == address])
    assert "dport=53 " in cell.host.run("conntrack", "-L", "-s", address)
    assert listed(cell, port="tcp/53") == []
