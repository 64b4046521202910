"""The same script as netavark calls it, which podman 5 hands its containers to: the real program, agent and namespaces."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.testlib.cell import CellUnderTest
from tests.testlib.engines.cni import PLUGINS
from tests.testlib.netns import Netns

MakeNetns = Callable[[str], Netns]
ID = "752947ff91f961eb3cb47ffe9315016979f3ffbec09e4d96a4fae3fb03391697"


def called(*words: str, told: object = None) -> tuple[int, Any]:
    """Exit code and answer."""
    done = subprocess.run(
        [PLUGINS / "cellnet-netavark", *words], input=json.dumps(told).encode(), capture_output=True, timeout=60
    )
    assert done.stderr == b"", done.stderr.decode()
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def told(cell: CellUnderTest, *aliases: str, **more: object) -> dict[str, object]:
    """What netavark writes to a plugin."""
    options = {"socket": str(cell.lab.root / "run/cellnet/agent.sock")}
    flags = dict.fromkeys(("dns_enabled", "internal", "ipv6_enabled"), False)
    network = {"name": "cellnet", "id": "0", "driver": "cellnet", "options": options, "subnets": None, **flags}
    asked = {"aliases": [*aliases, ID[:12]], "interface_name": "eth0", "static_ips": None, "static_mac": None}
    return {
        "container_id": ID,
        "container_name": "web",
        "port_mappings": None,
        "network": network,
        "network_options": asked,
        **more,
    }


def test_a_container_is_set_up_and_torn_down(cell: CellUnderTest, netns: MakeNetns) -> None:
    place = str(netns("c").path)
    code, answer = called("setup", place, told=told(cell, "acme/shop/web"))
    found = cell.client.get("/v1/attachments/web")
    mac = "02:c0:0a:ff:" + ":".join(f"{int(each):02x}" for each in found.text("address").split(".")[2:])
    subnets = [{"ipnet": f"{found.text('address')}/32", "gateway": "169.254.0.1"}]
    assert (code, found.text("app")) == (0, "acme/shop/web")
    assert answer == {
        "dns_server_ips": ["169.254.0.2"], "dns_search_domains": ["shop.acme.cell.internal", "acme.cell.internal"],
        "interfaces": {"eth0": {"mac_address": mac, "subnets": subnets}},
    }  # fmt: skip
    for _ in range(2):
        assert called("teardown", place, told=told(cell)) == (0, None)
        assert cell.attachments() == []


def test_what_is_refused_is_an_error_with_what_and_hint(cell: CellUnderTest, netns: MakeNetns) -> None:
    place = str(netns("c").path)
    code, answer = called("setup", place, told=told(cell))
    assert code == 1
    assert "nothing says which app 'web' is; hint: say it with --network-alias" in answer["error"]
    fixed = {"aliases": ["acme/shop/web"], "interface_name": "eth0", "static_ips": ["10.255.1.9"]}
    code, answer = called("setup", place, told=told(cell, network_options=fixed))
    assert (code, answer["error"]) == (1, "the engine asks for an address, which cellnet gives itself; hint: leave it out")
    assert cell.attachments() == []


def test_an_engine_that_makes_a_network_anew_gets_the_address_that_the_container_had(
    cell: CellUnderTest, netns: MakeNetns
) -> None:
    first, again = str(netns("c").path), {"aliases": ["acme/shop/web"], "interface_name": "eth0"}
    made = called("setup", first, told=told(cell, network_options=again))[1]["interfaces"]["eth0"]
    had, mac = made["subnets"][0]["ipnet"].partition("/")[0], made["mac_address"]
    for _ in range(2):
        assert called("teardown", first, told=told(cell))[0] == 0
        asked = {**again, "static_ips": [had], "static_mac": mac}
        assert called("setup", first, told=told(cell, network_options=asked))[1]["interfaces"]["eth0"] == made
    assert called("teardown", first, told=told(cell))[0] == 0
    asked = {**again, "static_ips": [had], "static_mac": "02:00:00:00:00:01"}
    assert (
        "a hardware address, which cellnet gives itself"
        in called("setup", first, told=told(cell, network_options=asked))[1]["error"]
    )


def test_port_mappings_are_published(cell: CellUnderTest, netns: MakeNetns) -> None:
    ports = [
        {"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 1},
        {"container_port": 5300, "host_ip": str(cell.host.address), "host_port": 5300, "protocol": "udp", "range": 3},
    ]
    place = str(netns("c").path)
    assert called("setup", place, told=told(cell, "acme/shop/web", port_mappings=ports))[0] == 0
    found = cell.client.get("/v1/attachments/web").at("publish").each()
    assert [tuple(map(each.text, ("address", "port", "last", "to", "protocol"))) for each in found] == [
        ("any", "8080", "8080", "80", "tcp"),
        (str(cell.host.address), "5300", "5302", "5300", "udp"),
    ]  # fmt: skip
    called("teardown", place, told=told(cell))


def test_a_network_is_made_as_it_is_asked_for_unless_cellnet_decides_it() -> None:
    network: dict[str, object] = {"name": "cellnet", "id": "0", "driver": "cellnet", "options": {"app": "acme/shop/web"}}
    code, answer = called("create", told=network)
    assert code == 0
    assert answer == {**network, "ipam_options": {"driver": "none"}, "dns_enabled": False}
    assert called("create", told={**network, "options": {"ap": "x"}})[1]["error"].startswith(
        "--opt ap is not known; hint: known"
    )
    assert called("create", told={**network, "subnets": [{"subnet": "10.0.0.0/16"}]})[0] == 1


def test_it_says_what_it_is() -> None:
    assert called("info") == (0, {"version": "1.0.0", "api_version": "1.0.0"})


def test_both_names_are_installed_as_one_program() -> None:
    programs = [Path(PLUGINS / name).read_bytes() for name in ("cellnet-cni", "cellnet-netavark")]
    assert programs[0] == programs[1] == (Path(__file__).parents[2] / "agent/cni/plugin.py").read_bytes()
