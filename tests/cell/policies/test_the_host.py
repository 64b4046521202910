"""Containers and the cell itself: it reaches them, they do not reach it, and nothing else of the overlay answers."""

import socket
from collections.abc import Callable
from contextlib import suppress

from dataplane.tables import host_mac
from host.namespace import run_in
from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.attacks.dns_floods import flooded_by
from tests.testlib.cell import CellUnderTest
from tests.testlib.node import Connected, Refused, TimedOut, Unreachable, outcome_of
from tests.testlib.patience import eventually
from tests.testlib.status import is_well, reports


def test_the_cell_reaches_its_containers_without_a_policy(cell: CellUnderTest) -> None:
    (api,) = cell.containers("acme/shop/api")
    assert [cell.host.connect(api, port) for port in (8080, 61443)] == [Connected, Connected]
    assert cell.host.udp(api, 8080) is Connected
    assert cell.host.get(api, 8080) == f"hello {cell.host.address}\n"


def test_containers_do_not_reach_the_addresses_of_the_cell_or_beyond(cell: CellUnderTest) -> None:
    (web,) = cell.containers("acme/shop/web")
    cell.host.listen(9001)
    cell.outside.listen(9001)
    assert cell.host.connect(cell.outside, 9001) is cell.outside.connect(cell.host, 9001) is Connected
    for target in (cell.host, cell.outside, "169.254.0.1", "10.255.1.1"):
        assert web.connect(target, 9001) is Refused, target
        assert web.udp(target, 9001) is Refused, target


def test_host_services_and_nothing_else_of_the_cell_are_open(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("host_services=[{protocol: tcp, port: 9001}, {protocol: udp, port: 9002}]")
    web = cell.run_app("acme/shop/web")
    for port in (9000, 9001, 9002):
        cell.host.listen(port)
    datagrams = cell.host.datagrams(9002)
    assert [web.connect(cell.host, port) for port in (9000, 9001, 9002)] == [Refused, Connected, Refused]
    web.datagrams().sendto(b"hello", (str(cell.host.address), 9002))
    assert datagrams.recv(16) == b"hello"
    assert web.udp(cell.host, 9001) is Refused


def test_egress_leads_out_and_neither_to_the_cell_nor_to_containers_that_are_not_there(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    cell = make_cell("egress.default=allow")
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    cell.host.listen(9001)
    outside = cell.outside.listen(9001)
    assert web.connect(cell.outside, 9001) is Connected
    assert outside.accept()[1][0] == str(cell.host.address)  # masqueraded
    for target in (cell.host, "169.254.0.1", "169.254.169.254", "10.255.1.200", "10.255.2.10"):
        assert web.connect(target, 9001) is Refused, target
    assert (web.connect(api, 8080), web.udp(api, 8080)) == (Refused, Refused)


def test_an_address_of_the_overlay_without_a_container_refuses_at_once(cell: CellUnderTest) -> None:
    (web,) = cell.containers("acme/shop/web")
    cell.policy_file("all.yaml", "policies:\n- {from: same-space, to: acme/shop/*, tcp: any, udp: any}\n")
    for target in ("10.255.1.0", "10.255.1.1", "10.255.1.200", "10.255.1.255", "10.255.2.10", "10.255.0.1"):
        assert web.connect(target, 8080) is Refused, target
    assert web.udp("10.255.1.200", 8080) is Refused


def test_the_cell_is_not_reached_over_ipv6(cell: CellUnderTest) -> None:
    """Even by root in the container, which can give itself a link-local address and knows the host's."""
    web = cell.run_app("acme/shop/web")
    listener = cell.host.keep(run_in(cell.lab.netns, lambda: socket.create_server(("::", 9001), family=socket.AF_INET6)))
    mac = host_mac(web.address)
    host = _link_local(mac)
    web.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0", "net.ipv6.conf.eth0.accept_dad=0")
    web.run("ip", "addr", "add", "fe80::2/64", "dev", "eth0")
    web.run("ip", "neigh", "replace", host, "lladdr", mac, "dev", "eth0")
    assert "inet6" not in cell.host.run("ip", "-6", "addr", "show", "dev", web.interface)
    listener.settimeout(0.5)
    call = lambda: socket.create_connection((f"{host}%eth0", 9001), timeout=0.5).close()  # noqa: E731
    assert run_in(web.pin, lambda: outcome_of(call)) in (TimedOut, Unreachable)  # where its own route is late
    assert outcome_of(listener.accept) is TimedOut


def _link_local(mac: str) -> str:
    """The address that the kernel makes of a MAC (EUI-64)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    wide = [*octets[:3], 0xFF, 0xFE, *octets[3:]]
    return "fe80::" + ":".join(f"{wide[i] << 8 | wide[i + 1]:x}" for i in range(0, 8, 2))


def test_what_another_programs_rules_eat_is_a_problem_in_status(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("firewall.backend=nft", kind=VigilantCell)
    cell.host.run("iptables-legacy", "-P", "FORWARD", "DROP")
    eventually(lambda: reports(cell, "firewall", "chain FORWARD of iptables-legacy drops what it does not name"))
    cell.host.run(
        "iptables-legacy", "-t", "filter", "-I", "FORWARD", "-s", "10.255.0.0/16", "-d", "10.255.0.0/16", "-j", "ACCEPT"
    )
    eventually(lambda: is_well(cell))


def test_a_container_that_opens_too_many_flows_is_named(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell(kind=VigilantCell)
    (web,) = cell.containers("acme/shop/web")
    with web.datagrams() as sender:

        def is_named_while_it_floods() -> bool:
            for number in range(3_000):
                with suppress(OSError):
                    sender.sendto(b"", (f"10.255.1.{number % 200 + 50}", number + 1))
            return reports(cell, "firewall", "further ones of web are refused")

        eventually(is_named_while_it_floods)


def test_a_container_that_asks_for_too_many_names_is_named(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell(kind=VigilantCell)
    (web,) = cell.containers("acme/shop/web")
    with flooded_by(web):
        eventually(lambda: reports(cell, "dns", "further ones of web get no answer"))
