"""What is not this cell's is asked of the outside where containers may leave the overlay, and of nothing else."""

import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

import pytest

from agent.config.load import load
from agent.dns.process import settings_of
from agent.dns.upstreams import Choice, chosen, name_servers
from agent.errors import InvalidInput
from dataplane.dns.command import HOP, Upstream, arguments
from host.namespace import run_in
from lab.cell import Cell
from lab.segment import OUTSIDE
from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.attacks.dns_floods import flooded_by, unanswered
from tests.testlib.cell import CellUnderTest
from tests.testlib.dns.client import Answer, Code, Kind, ask, ask_once, ask_over_tcp
from tests.testlib.dns.lying_server import OUTER, lying_dns
from tests.testlib.dns.outside_server import MANY, NAME, outside_dns
from tests.testlib.instance import Instance
from tests.testlib.patience import eventually

RESOLVER, OVERLAY = IPv4Address("169.254.0.2"), IPv4Network("10.255.0.0/16")
FULL = 4.0  # seconds, in which more questions come to wait than may
SECOND = IPv4Address("10.77.0.253")


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("egress.default=allow",)


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    """A flood of questions is a problem in the status until the next look, and no test begins before that."""
    return VigilantCell


@pytest.fixture
def web(cell: CellUnderTest) -> Iterator[Instance]:
    """An app that may leave the overlay, on a host whose resolv.conf names the server outside."""
    with outside_dns(cell.outside, at=OUTSIDE.ip):
        host_asks(cell, str(OUTSIDE.ip))
        made = cell.run_app("acme/shop/web")
        eventually(lambda: is_answered(made))
        yield made


def is_answered(node: Instance) -> bool:
    """Whether the server outside is asked; one of the test before may not answer."""
    with suppress(OSError):
        return ask_once(node, NAME).addresses == ["192.0.2.1"]
    return False


def host_asks(cell: CellUnderTest, *servers: str) -> None:
    """Write the host's resolv.conf, as a DHCP client does."""
    path = cell.lab.root / "etc/resolv.conf"
    new = path.with_suffix(".new")
    new.write_text("".join(f"nameserver {each}\n" for each in servers))
    new.rename(path)


KINDS = [
    (NAME, Kind.A, 1), (NAME, Kind.AAAA, 1), (NAME, Kind.HTTPS, 1), (NAME, Kind.TXT, 0), ("example.com", Kind.TXT, 1),
    ("example.com", Kind.MX, 1), ("_http._tcp.example.com", Kind.SRV, 1), ("1.2.0.192.in-addr.arpa", Kind.PTR, 1),
]  # fmt: skip


def test_names_of_the_outside_are_asked_of_it_over_udp_and_tcp(web: Instance) -> None:
    for name, kind, count in KINDS:
        for over in (ask, ask_over_tcp):
            found: Answer = over(web, name, kind)
            assert (found.code, len(found.records)) == (Code.NOERROR, count), (name, kind)
    assert ask(web, "nothing.example.com").code is Code.NXDOMAIN


def test_what_does_not_fit_a_datagram_comes_over_tcp(web: Instance) -> None:
    assert ask(web, MANY, Kind.TXT).truncated
    assert len(ask_over_tcp(web, MANY, Kind.TXT).records) == 20


def test_a_name_of_the_outside_keeps_its_time_to_live(web: Instance) -> None:
    (record,) = ask(web, NAME).records
    assert 50 < record.seconds <= 60


def test_names_of_the_cell_and_names_without_a_dot_stay_here(web: Instance, cell: CellUnderTest) -> None:
    cell.outside.run("ip", "link", "set", "lo", "up")
    for name in ("nothing.cell.internal", "nothing.apps.internal", "backend", "1.1.255.10.in-addr.arpa", "x.cellnet.invalid"):
        assert ask(web, name).code is Code.NXDOMAIN, name


def test_the_hosts_name_servers_are_followed(web: Instance, cell: CellUnderTest) -> None:
    cell.outside.run("ip", "addr", "add", f"{SECOND}/24", "dev", cell.lab.uplink)
    try:
        with outside_dns(cell.outside, at=SECOND, address="192.0.2.2"):
            host_asks(cell, str(SECOND))
            eventually(lambda: cell.status().at("dns").texts("upstreams") == (f"{SECOND}#53",))
            eventually(lambda: ask(web, NAME).addresses == ["192.0.2.2"])
    finally:
        cell.outside.run("ip", "addr", "del", f"{SECOND}/24", "dev", cell.lab.uplink)


def test_one_inside_the_overlay_is_left_out_with_a_notice_and_no_error(web: Instance, cell: CellUnderTest) -> None:
    host_asks(cell, "10.255.0.53", str(OUTSIDE.ip), str(RESOLVER))
    eventually(
        lambda: (
            cell.status().at("dns").texts("left_out")
            == ("10.255.0.53 is inside the overlay 10.255.0.0/16", f"{RESOLVER} is the resolver itself")
        )
    )
    assert cell.wait_well().at("dns").texts("upstreams") == (f"{OUTSIDE.ip}#53",)
    assert ask(web, NAME).code is Code.NOERROR


def test_names_of_the_cell_are_answered_while_a_name_server_is_silent(web: Instance, cell: CellUnderTest) -> None:
    """Also to others, of a container that asks for names of the outside as fast as it can."""
    mallory = cell.run_app("evil/shop/mallory")
    cell.outside.run("ip", "addr", "add", f"{SECOND}/24", "dev", cell.lab.uplink)
    try:
        with run_in(cell.outside.pin, lambda: silent(SECOND)), flooded_by(mallory, name="000000.example.com"):
            host_asks(cell, str(SECOND))
            eventually(lambda: cell.status().at("dns").texts("upstreams") == (f"{SECOND}#53",))
            time.sleep(FULL)
            assert not unanswered(web)
    finally:
        cell.outside.run("ip", "addr", "del", f"{SECOND}/24", "dev", cell.lab.uplink)


def silent(address: IPv4Address) -> socket.socket:
    """A name server that reads nothing."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((str(address), 53))
    return made


def test_a_name_server_of_the_outside_has_no_say_in_the_names_of_the_cells(web: Instance, cell: CellUnderTest) -> None:
    """Its answer may say of which other name it is; dnsmasq would keep that for all who ask for the other name."""
    cell.outside.run("ip", "addr", "add", f"{SECOND}/24", "dev", cell.lab.uplink)
    try:
        with lying_dns(cell.outside, at=SECOND):
            host_asks(cell, str(SECOND))
            eventually(lambda: cell.status().at("dns").texts("upstreams") == (f"{SECOND}#53",))
            for name in ("down.shop.acme.cell.internal", "shop.apps.internal", "backend"):
                assert ask(web, f"{name}.{OUTER}").addresses == ["192.0.2.6"], name
                assert ask(web, name).code is Code.NXDOMAIN, name
            assert len(ask(web, f"web.shop.acme.cell.internal.{OUTER}", Kind.AAAA).records) == 2
            assert not ask(web, "web.shop.acme.cell.internal", Kind.AAAA).records
    finally:
        cell.outside.run("ip", "addr", "del", f"{SECOND}/24", "dev", cell.lab.uplink)


def test_without_any_name_server_they_are_refused(web: Instance, cell: CellUnderTest) -> None:
    (cell.lab.root / "etc/resolv.conf").unlink()
    eventually(lambda: ask(web, NAME).code is Code.REFUSED)
    assert ask(web, "nothing.cell.internal").code is Code.NXDOMAIN


def test_servers_of_agent_yaml_are_asked_instead_of_the_hosts(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("egress.default=allow", f"dns.upstreams=[{OUTSIDE.ip}#5353]")
    host_asks(cell, str(SECOND))
    with outside_dns(cell.outside, at=OUTSIDE.ip, port=5353):
        web = cell.run_app("acme/shop/web")
        assert ask(web, "nothing.cell.internal").code is Code.NXDOMAIN
        for over in (ask, ask_over_tcp):
            assert over(web, NAME).addresses == ["192.0.2.1"]
    assert cell.status().at("dns").texts("upstreams") == (f"{OUTSIDE.ip}#5353",)


@pytest.mark.parametrize(
    ("settings", "asked", "follows"),
    [
        ([], [str(HOP)], False),
        (["dns.upstreams=[192.0.2.53]"], [str(HOP)], False),
        (["dns.upstreams=none"], [], False),
        (["egress.default=allow"], [], True),
        (["egress.default=allow", "dns.upstreams=none"], [], False),
        (["egress.default=allow", "dns.upstreams=[192.0.2.53#54, 10.255.0.9, '::1']"], ["192.0.2.53#54", "::1#53"], False),
    ],
)
def test_what_dnsmasq_is_told_to_ask(settings: list[str], asked: list[str], follows: bool) -> None:
    """Where containers may not leave the overlay the hop alone, and that on whose behalf."""
    config = load(Path("/nowhere/agent.yaml"), root=Path("/nowhere"), hostname="one", overrides=settings)
    found = settings_of(config)
    assert (list(map(str, found.upstreams)), found.upstreams_file is not None) == (asked, follows)
    words = arguments(found)
    assert "--no-resolv" in words
    assert [each for each in words if each.startswith("--server")] == [f"--server={each}" for each in asked] + (
        [f"--servers-file={config.paths.upstreams}"] if follows else []
    )
    assert ("--add-subnet=32" in words, "--strip-subnet" in words) == (found.upstreams == (HOP,),) * 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[one]", "'one' is not the address of a name server"),
        ("[192.0.2.53#0]", "'0' is not a port"),
        ("[192.0.2.53#65536]", "'65536' is not a port"),
        ("['192.0.2.53#']", "'' is not a port"),
        ("[0.0.0.0]", "0.0.0.0 cannot be a name server"),
        ("host", "'host' is not possible here"),
        ("{a: b}", "expected a list, found a mapping"),
    ],
)
def test_a_server_that_is_none_is_refused(value: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)):
        load(Path("/nowhere/agent.yaml"), root=None, hostname="one", overrides=[f"dns.upstreams={value}"])


@pytest.mark.parametrize("address", ["127.0.0.53", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.255.0.2", "169.254.0.1", "x"])
def test_an_address_that_cannot_be_the_resolvers_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(address)):
        load(Path("/nowhere/agent.yaml"), root=None, hostname="one", overrides=[f"dns.address={address}"])


def test_the_servers_of_a_resolv_conf() -> None:
    text = (
        "# none\nnameserver 192.0.2.53\nnameserver\nnameserver x\n nameserver fe80::1%eth0\nnameserver 192.0.2.53\nsearch a.b\n"
    )
    assert [str(each.address) for each in name_servers(text)] == ["192.0.2.53", "fe80::1"]


def test_which_of_them_are_asked() -> None:
    found = name_servers("nameserver 10.255.3.4\nnameserver 169.254.0.2\nnameserver 192.0.2.53\nnameserver ::1\n")
    choice = chosen(found, overlay=OVERLAY, resolver=RESOLVER)
    assert [str(each.address) for each in choice.asked] == ["192.0.2.53", "::1"]
    assert len(choice.left_out) == 2
    assert (
        Choice((Upstream(RESOLVER), Upstream(IPv6Address("::1"), 5353))).content == b"server=169.254.0.2#53\nserver=::1#5353\n"
    )
