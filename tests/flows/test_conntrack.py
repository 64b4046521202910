"""What is read from the kernel's table of connections, and what is taken out of it."""

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from dataplane.flows import conntrack
from dataplane.flows.conntrack import Flow
from dataplane.flows.sockdiag import Ends
from host.namespace import NamespaceThread
from tests.testlib.netns import Netns

SERVER = IPv4Address("10.200.1.9")


class Table:
    """The conntrack table of a namespace, filled by the `conntrack` tool."""

    def __init__(self, netns: Netns) -> None:
        self.netns = netns
        self.thread = NamespaceThread(netns.path)
        self.link = self.thread.call(conntrack.connect)

    def add(self, *, protocol: str = "tcp", source: str = "10.200.1.2", target: str = str(SERVER), port: int = 8080,
            source_port: int = 40000, state: str = "ESTABLISHED", more: str = "") -> None:  # fmt: skip
        stated = f"--state {state}" if protocol == "tcp" else ""
        self.netns.run("conntrack", "-I", *f"-p {protocol} -s {source} -d {target} --sport {source_port} --dport {port} "
                       f"{stated} -t 300 {more}".split())  # fmt: skip

    def add_many(self, number: int) -> None:
        self.netns.run("conntrack", "--load-file", "/dev/stdin", stdin="".join(
            f"-I -p tcp -s 10.201.{i // 250 % 250}.{i % 250 + 1} -d 10.202.0.{i % 200 + 1} --sport {1024 + i} --dport 80 "
            "--state ESTABLISHED -t 300\n" for i in range(number)
        ).encode())  # fmt: skip

    def flows(self, **restriction: object) -> tuple[Flow, ...]:
        return self.thread.call(lambda: conntrack.flows(self.link, **restriction))  # type: ignore[arg-type]

    def delete(self, *flows: Flow) -> int:
        return self.thread.call(lambda: conntrack.delete(self.link, flows))


@pytest.fixture
def table(netns: Callable[[str], Netns]) -> Iterator[Table]:
    made = Table(netns("table"))
    yield made
    made.link.close()
    made.thread.close()


def test_a_flow_is_read_with_both_tuples(table: Table) -> None:
    table.add()
    (flow,) = table.flows()
    client = IPv4Address("10.200.1.2")
    assert (flow.protocol, flow.source, flow.source_port) == (socket.IPPROTO_TCP, client, 40000)
    assert (flow.destination, flow.destination_port) == (SERVER, 8080)
    assert (flow.reply_source, flow.reply_source_port) == (SERVER, 8080)
    assert (flow.reply_destination, flow.reply_destination_port) == (client, 40000)
    assert flow.zone == 0
    assert flow.id
    assert flow.status & 0x8  # confirmed


@pytest.mark.parametrize(
    ("state", "over"),
    [("SYN_SENT", False), ("ESTABLISHED", False), ("FIN_WAIT", False), ("CLOSE_WAIT", False), ("LAST_ACK", True),
     ("TIME_WAIT", True), ("CLOSE", True)],
)  # fmt: skip
def test_a_connection_is_over_when_both_ends_have_closed_it_or_one_was_reset(table: Table, state: str, over: bool) -> None:
    table.add(state=state)
    table.add(state=state, more="--orig-zone 8", source_port=40001)  # written in another way
    assert [flow.is_over for flow in table.flows()] == [over, over]


def test_a_flow_of_datagrams_is_never_over(table: Table) -> None:
    table.add(protocol="udp")
    assert [(flow.tcp_state, flow.is_over) for flow in table.flows()] == [(0, False)]


def test_a_rewritten_flow_is_found_by_the_answering_address_not_by_the_dialled_one(table: Table) -> None:
    table.add(target="192.0.2.1", port=80, more=f"--dst-nat {SERVER}:8080")
    (flow,) = table.flows(to=[SERVER])
    assert (str(flow.destination), flow.destination_port) == ("192.0.2.1", 80)
    assert (flow.reply_source, flow.reply_source_port) == (SERVER, 8080)
    assert not table.flows(to=[IPv4Address("192.0.2.1")])


@pytest.mark.parametrize("others", [0, 1, 2, 40])
def test_flows_to_chosen_addresses_are_the_same_however_many_are_asked_for(table: Table, others: int) -> None:
    table.add()
    table.add(target="10.200.1.3")
    table.add(source=str(SERVER), target="10.200.1.4")
    found = table.flows(to=[SERVER, *(IPv4Address("10.200.2.0") + number for number in range(others))])
    assert [flow.destination for flow in found] == [SERVER]
    assert not table.flows(to=[])


def test_flows_of_an_address_are_those_from_it_and_to_it(table: Table) -> None:
    table.add()
    table.add(target="10.200.1.3")
    table.add(source=str(SERVER), target="10.200.1.4")
    assert sorted(str(flow.destination) for flow in table.flows(of=[SERVER])) == ["10.200.1.4", str(SERVER)]


def test_flows_to_some_addresses_and_of_others_are_found_in_one_walk(table: Table) -> None:
    table.add()
    table.add(target="10.200.1.3")
    table.add(source="10.200.1.3", target="10.200.1.4")
    table.add(source="10.200.1.5", target="10.200.1.4")
    table.add(source=str(SERVER), target="10.200.1.4")
    found = table.flows(to=[SERVER], of=[IPv4Address("10.200.1.3"), IPv4Address("10.200.1.5")])
    assert sorted((str(flow.source), str(flow.destination)) for flow in found) == [
        ("10.200.1.2", "10.200.1.3"),
        ("10.200.1.2", str(SERVER)),
        ("10.200.1.3", "10.200.1.4"),
        ("10.200.1.5", "10.200.1.4"),
    ]


def test_udp_and_protocols_without_ports_are_read_and_deleted(table: Table) -> None:
    table.add(protocol="udp")
    table.netns.run(
        "conntrack", "-I", *f"-p icmp -s 10.200.1.2 -d {SERVER} --icmp-type 8 --icmp-code 0 --icmp-id 5 -t 99".split()
    )
    found = {flow.protocol: flow for flow in table.flows()}
    assert set(found) == {socket.IPPROTO_UDP, socket.IPPROTO_ICMP}
    echo = found[socket.IPPROTO_ICMP]
    assert (echo.source_port, echo.destination_port, echo.reply_source_port) == (8, 0, 0), "types, where there are no ports"
    assert table.delete(*found.values()) == 2
    assert not table.flows()


def test_ten_thousand_flows_are_read_and_deleted_each_once(table: Table) -> None:
    table.add_many(10_000)
    table.add()
    found = table.flows()
    assert len(found) == len({flow.key for flow in found}) == 10_001  # not id: the kernel's is a hash of 32 bits
    assert {flow.source_port for flow in found} == {*range(1024, 11_024), 40000}
    assert len(table.flows(to=[SERVER])) == len(table.flows(of=[SERVER])) == 1
    gone = [flow for flow in found if flow.destination != SERVER]
    assert table.delete(*gone) == 10_000
    assert [flow.destination for flow in table.flows()] == [SERVER]


@pytest.mark.parametrize("key", [b"", bytes(4), struct.pack("=HH", 4, 1), struct.pack("=HHHH", 4, 1, 4, 3)])
def test_a_flow_that_names_no_entry_cannot_be_deleted(table: Table, key: bytes) -> None:
    table.add()
    table.add(source_port=40001)
    flow, other = table.flows()
    with pytest.raises(ValueError, match="key"):
        table.delete(other, replace(flow, key=key))
    assert len(table.flows()) == 2


def test_deleting_nothing_deletes_nothing(table: Table) -> None:
    table.add()
    assert table.delete() == 0
    assert len(table.flows()) == 1


def test_the_same_addresses_in_another_zone_are_another_flow(table: Table) -> None:
    table.add()
    table.add(more="--zone 7")
    table.add(more="--orig-zone 8", source_port=40001)  # a zone of one direction is part of the tuple
    table.add(more="--reply-zone 9", source_port=40002)
    flows = table.flows()
    assert sorted(flow.zone for flow in flows) == [0, 0, 0, 7]
    for number, flow in enumerate(flows, start=1):
        assert table.delete(flow) == 1
        left = table.flows()
        assert flow.id not in {each.id for each in left}
        assert len(left) == 4 - number


def test_a_later_flow_of_the_same_addresses_is_not_hit(table: Table) -> None:
    table.add()
    (old,) = table.flows()
    assert table.delete(old) == 1
    table.add()
    (new,) = table.flows()
    assert table.delete(replace(new, id=new.id ^ 1)) == 0
    assert len(table.flows()) == 1


def test_a_flow_that_is_gone_is_no_failure(table: Table) -> None:
    table.add()
    flows = table.flows()
    assert [table.delete(*flows), table.delete(*flows)] == [1, 0]
    table.thread.call(lambda: conntrack.retire(table.link, flows))
    assert not table.flows()


def test_a_connection_is_looked_up_only_at_the_end_that_answers(table: Table) -> None:
    table.add(target="192.0.2.1", port=80, more=f"--dst-nat {SERVER}:8080")
    client = IPv4Address("10.200.1.2")
    here, there = Ends(SERVER, 8080, client, 40000), Ends(client, 40000, IPv4Address("192.0.2.1"), 80)
    nowhere = Ends(SERVER, 8081, client, 40000)
    assert table.thread.call(lambda: conntrack.answered(table.link, [here])) == table.flows()
    assert table.thread.call(lambda: conntrack.answered(table.link, [there, nowhere])) == ()
    assert table.thread.call(lambda: conntrack.answered(table.link, [])) == ()


def test_as_many_look_ups_as_wanted_get_their_answers(table: Table) -> None:
    table.add_many(2_000)
    asked = [Ends(flow.reply_source, 80, flow.source, flow.source_port) for flow in table.flows()]
    assert len(table.thread.call(lambda: conntrack.answered(table.link, asked))) == 2_000
