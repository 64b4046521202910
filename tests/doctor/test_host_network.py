"""What is wrong with a host's network, each made there."""

import socket
from contextlib import closing

import pytest

from agent.config.config import Config
from agent.doctor import host_network
from agent.doctor.checks import Finding
from host import ethtool
from host.namespace import run_in
from tests.doctor.conftest import ETCD, Configured, inside
from tests.testlib.netns import Netns

CHECKS = (
    host_network.underlay, host_network.offload, host_network.return_path, host_network.addresses, host_network.other_rules,
    host_network.names,
)  # fmt: skip


CLOSED = b"table inet other\nadd chain inet other here { type filter hook %s priority 0; policy drop; }\n"
NAMES = b"add rule inet other here %s dport 53 accept\n"


def hint_of(found: Finding, *words: str) -> str:
    """The command that mends the one problem, which has these words."""
    (problem,) = found.problems
    assert all(word in problem.what for word in words), problem
    return problem.hint


@pytest.mark.parametrize("text", ["", ETCD])
def test_nothing_is_wrong_with_a_host_that_has_a_network_alone(host: Netns, configured: Configured, text: str) -> None:
    config = configured(text)
    for check in CHECKS:
        assert inside(host, lambda: check(config)).problems == (), check
    assert inside(host, lambda: host_network.underlay(config)).about == "eth0, 10.77.0.1, MTU 1500"


def test_a_cell_among_others_needs_an_underlay(host: Netns, configured: Configured) -> None:
    host.run("ip", "link", "set", "eth0", "down")
    assert "ip route" in hint_of(inside(host, lambda: host_network.underlay(configured(ETCD))), "this host has no underlay")
    assert inside(host, lambda: host_network.underlay(configured())).problems == ()


def test_an_mtu_that_the_underlay_does_not_carry_is_named_with_what_mends_it(host: Netns, configured: Configured) -> None:
    config = configured(f"{ETCD}overlay: {{mtu: 1450}}\n")
    assert inside(host, lambda: host_network.underlay(config)).problems == ()
    host.run("ip", "link", "set", "eth0", "mtu", "1400")
    hint = hint_of(inside(host, lambda: host_network.underlay(config)), "overlay.mtu is 1450", "carries 1350 at most")
    assert "set overlay.mtu to 1350" in hint
    host.run(*hint.rpartition("or: ")[2].split())
    assert inside(host, lambda: host_network.underlay(config)).problems == ()


def test_an_underlay_that_leaves_containers_nothing_is_named(host: Netns, configured: Configured) -> None:
    host.run("ip", "link", "set", "eth0", "mtu", "600")
    hint = hint_of(inside(host, lambda: host_network.underlay(configured())), "leaves containers 550")
    host.run(*hint.split())
    assert inside(host, lambda: host_network.underlay(configured())).problems == ()


def test_a_card_that_spoils_what_is_in_tunnels_is_named(host: Netns, configured: Configured) -> None:
    """A veth takes the work over, and is right at it: what if it were not?"""
    config = configured(ETCD)
    assert inside(host, lambda: ethtool.driver("eth0")) == "veth"
    hint = hint_of(
        inside(host, lambda: host_network.offload(config, broken={"veth"})), "driven by veth", "TCP inside of tunnels"
    )
    assert hint.startswith("ethtool -K eth0 tx-udp_tnl-segmentation off")
    assert inside(host, lambda: host_network.offload(configured(), broken={"veth"})).problems == ()


def test_a_strict_check_of_the_way_back_on_another_interface_is_named(host: Netns, configured: Configured) -> None:
    host.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
    host.run("ip", "address", "add", "10.78.0.1/24", "dev", "eth1")
    for each in ("eth1", "eth2"):
        host.run("ip", "link", "set", each, "up")
    config = configured(f"{ETCD}underlay: {{interface: eth1}}\n")
    for key, value in (("all", "0"), ("eth1", "0")):
        host.run("sysctl", "-w", f"net.ipv4.conf.{key}.rp_filter={value}")
    assert inside(host, lambda: host_network.return_path(config)).problems == ()
    host.run("sysctl", "-w", "net.ipv4.conf.eth1.rp_filter=1")
    hint = hint_of(inside(host, lambda: host_network.return_path(config)), "strict on eth1", "leaves by eth0")
    host.run(*hint.partition(",")[0].split())
    assert inside(host, lambda: host_network.return_path(config)).problems == ()


def test_a_route_in_the_overlay_and_a_second_holder_of_the_resolvers_address_are_named(
    host: Netns, configured: Configured
) -> None:
    host.run("ip", "route", "add", "10.255.7.0/24", "via", "10.77.0.2")
    host.run("ip", "address", "add", "169.254.0.2/32", "dev", "eth0")
    found = inside(host, lambda: host_network.addresses(configured()))
    assert [each.area for each in found.problems] == ["overlay", "dns"]
    assert "route 10.255.7.0/24 on eth0" in found.problems[0].what
    assert "address 169.254.0.2/32 of eth0" in found.problems[1].what


def test_a_firewall_that_drops_what_it_does_not_name_is_mended_by_the_hint(host: Netns, configured: Configured) -> None:
    host.run("nft", "-f", "-", stdin=CLOSED % b"forward")
    hint = hint_of(inside(host, lambda: host_network.other_rules(configured())), "chain here of nft table inet other")
    host.run(*hint.removeprefix("exempt the overlay: ").split())
    assert inside(host, lambda: host_network.other_rules(configured())).problems == ()


def test_a_tunnels_port_is_wanted_among_other_cells_only(host: Netns, configured: Configured) -> None:
    host.run("nft", "-f", "-", stdin=CLOSED % b"input" + b"".join(NAMES % each for each in (b"udp", b"tcp")))
    assert inside(host, lambda: host_network.other_rules(configured())).problems == ()
    assert "udp dport 4789" in hint_of(inside(host, lambda: host_network.other_rules(configured(ETCD))), "chain here")


def test_a_program_on_the_resolvers_port_is_named(host: Netns, configured: Configured) -> None:
    config: Config = configured("dns: {address: 10.77.0.1}\n")

    def listening() -> socket.socket:
        made = socket.socket()
        made.bind(("0.0.0.0", 53))
        made.listen()
        return made

    with closing(run_in(host.path, listening)):
        hint_of(inside(host, lambda: host_network.names(config)), "port 53 of 10.77.0.1 is taken")
    assert inside(host, lambda: host_network.names(config)).problems == ()


def test_a_name_server_inside_the_overlay_is_not_asked(host: Netns, configured: Configured) -> None:
    config = configured()
    config.paths.host_resolv_conf.parent.mkdir(parents=True)
    config.paths.host_resolv_conf.write_text("nameserver 10.255.9.9\nnameserver 192.0.2.53\n")
    found = inside(host, lambda: host_network.names(config))
    assert "10.255.9.9 is inside the overlay" in found.problems[0].what
    assert found.about == "name servers: 192.0.2.53"
