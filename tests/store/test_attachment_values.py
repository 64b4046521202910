"""Requests are checked when they are made; the port behind TLS follows from the request alone."""

from pathlib import Path

import pytest

from agent.errors import InvalidInput
from agent.model.app_port import AppPort
from agent.model.attachment import AttachRequest, target_port
from agent.model.key_owner import ROOT, KeyOwner
from agent.model.owner import NamespaceOwner, ProcessOwner
from tests.testlib.samples import app

NETNS = Path("/run/netns/x")


def asked(**fields: object) -> AttachRequest:
    return AttachRequest(**({"name": "a", "app": app("web"), "netns": NETNS} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "0", "Web-1_2.x", "a" * 64])
def test_good_names_are_taken(name: str) -> None:
    assert asked(name=name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "_a", "a/b", "a b", "a\n", "ä", "a" * 65, "a\0"])
def test_names_that_could_not_stand_in_a_path_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="is not an attachment's name"):
        asked(name=name)


@pytest.mark.parametrize("interface", ["", "lo", "all", "default", "..", "eth0/1", "eth 0", "eth0:1", "e" * 16, "eth0\n"])
def test_interfaces_the_kernel_would_refuse_or_sysctls_confuse_are_refused(interface: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be an interface's name"):
        asked(interface=interface)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_out_of_range_are_refused(port: int) -> None:
    with pytest.raises(InvalidInput, match=f"port {port} is out of range"):
        AppPort(port)
    with pytest.raises(InvalidInput, match=f"port {port} is out of range"):
        asked(tls_target=port)


@pytest.mark.parametrize(
    ("written", "port", "shown"),
    [
        ("8080", AppPort(8080), 8080),
        ("8080/tcp", AppPort(8080), 8080),
        ("53/udp", AppPort(53, "udp"), "53/udp"),
        (8080, AppPort(8080), 8080),
    ],
)
def test_a_port_is_a_number_for_tcp_and_has_its_protocol_else(written: int | str, port: AppPort, shown: int | str) -> None:
    assert AppPort.of(written) == port
    assert (port.json, str(port)) == (shown, str(shown))
    assert AppPort.of(port.json) == port


@pytest.mark.parametrize(
    "text", ["", "udp", "/udp", "53/", "53/UDP", "53/sctp", "udp/53", "+53", "5 3", "0x35", "65536", "53/udp\n", "٥٣"]
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        AppPort.parse(text)


@pytest.mark.parametrize("route", ["", "backend", "Backend.apps.internal", "*.apps.internal", ".a.b", "a..b", "a.b.", "a_b.c",
                                   ".".join(["a" * 63] * 4)])  # fmt: skip
def test_routes_that_are_no_dns_names_are_refused(route: str) -> None:
    with pytest.raises(InvalidInput, match="is not a route"):
        asked(routes=("ok.apps.internal", route))


@pytest.mark.parametrize("path", ["run/netns/x", "", "/run/\0"])
def test_a_namespace_path_must_be_absolute(path: str) -> None:
    with pytest.raises(InvalidInput, match="is not an absolute path"):
        asked(netns=Path(path))


def test_only_a_namespace_that_ip_netns_names_can_have_its_resolv_conf() -> None:
    assert asked(netns=Path("/var/run/netns/red"), netns_resolv_conf=True).netns_name == "red"
    assert asked(netns=Path("/run/netns/red")).netns_name == ""
    for path in ("/proc/1/ns/net", "/run/netns/red/blue", "/run/netns", "/run/netns/.."):
        with pytest.raises(InvalidInput, match="is no namespace of 'ip netns'"):
            asked(netns=Path(path), netns_resolv_conf=True)


@pytest.mark.parametrize("fields", [{"instance": -1}, {"instance": 65536}, {"owner_pid": 0}, {"owner_pid": -4}])
def test_numbers_that_make_no_sense_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        asked(**fields)


def test_tls_leads_to_the_port_asked_for_else_the_first_else_8080() -> None:
    dns, web, api = AppPort(53, "udp"), AppPort(9000), AppPort(8080)
    assert target_port(9443, ports=(api,)) == 9443
    assert target_port(None, ports=(web, api)) == 9000
    assert target_port(None, ports=(dns, web)) == 9000
    assert target_port(None, ports=(dns,)) == 8080
    assert target_port(None, ports=()) == 8080
    assert asked(ports=(AppPort(7000),)).target() == 7000


def test_a_process_lives_while_pid_start_and_boot_are_the_same() -> None:
    owner = ProcessOwner(pid=7, started=100, boot_id="b1")
    assert owner.lives(boot_id="b1", started=100)
    assert not owner.lives(boot_id="b1", started=None)
    assert not owner.lives(boot_id="b1", started=101)
    assert not owner.lives(boot_id="b2", started=100)


def test_a_namespace_lives_while_its_path_is_still_the_same_one() -> None:
    owner = NamespaceOwner(NETNS, device=4, inode=9, boot_id="b1")
    assert owner.lives(boot_id="b1", found=(4, 9))
    assert not owner.lives(boot_id="b1", found=None)
    assert not owner.lives(boot_id="b1", found=(4, 10))
    assert not owner.lives(boot_id="b2", found=(4, 9))


def test_a_keys_owner_is_a_user_and_perhaps_a_group() -> None:
    assert (KeyOwner.parse("1000"), KeyOwner.parse("1000:100")) == (KeyOwner(1000), KeyOwner(1000, 100))
    assert asked().key_owner == ROOT == KeyOwner.parse("0")


@pytest.mark.parametrize("text", ["", "app", "1000:", ":1000", "1:2:3", "-1", "1.0", " 1", "\u0661"])
def test_what_is_no_pair_of_numbers_owns_no_key(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not UID or UID:GID"):
        KeyOwner.parse(text)


@pytest.mark.parametrize("ids", [(-1, None), (2**32 - 1, None), (1, -1), (1, 2**32 - 1)])
def test_ids_that_the_kernel_does_not_have_own_no_key(ids: tuple[int, int | None]) -> None:
    with pytest.raises(InvalidInput, match="is not the id of a user or group"):
        KeyOwner(*ids)
