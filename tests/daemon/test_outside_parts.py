"""What is never outside, as the configuration has it: endpoints of the store, and the name servers of the cell or its host."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.config.config import Config
from agent.config.current import CurrentConfig
from agent.config.load import load
from agent.daemon.parts.outside import make_outside_parts
from agent.model.outside import HostPattern, Inside

ETCD = "store={etcd: {endpoints: [http://192.0.2.40:2379, http://localhost:2380]}}"


def config(tmp_path: Path, *overrides: str) -> Config:
    (tmp_path / "agent.yaml").touch()
    return load(tmp_path / "agent.yaml", root=None, hostname="one", overrides=overrides)


async def never(found: Config, *addresses: str) -> list[str]:
    """Those of the addresses that are."""
    parts = await make_outside_parts(CurrentConfig(found), elapsed=lambda: 0.0)
    networks = parts.never.networks({}, own=None)
    kept = [each for each in addresses if any(IPv4Address(each) in network for network in networks)]
    assert kept == [each for each in addresses if parts.never.why(IPv4Address(each))]
    return kept


async def test_the_stores_endpoints_are_never_outside(tmp_path: Path) -> None:
    assert await never(config(tmp_path, ETCD), "192.0.2.40", "192.0.2.41") == ["192.0.2.40"]
    assert await never(config(tmp_path), "192.0.2.40") == []


async def test_the_name_servers_that_are_configured_are_never_outside(tmp_path: Path) -> None:
    found = config(tmp_path, "dns.upstreams=['192.0.2.53', '192.0.2.54#5353', '2001:db8::53']")
    assert await never(found, "192.0.2.53", "192.0.2.54", "192.0.2.55") == ["192.0.2.53", "192.0.2.54"]


async def test_the_hosts_name_servers_are_never_outside_where_none_are_configured(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    found = config(tmp_path, f"paths.host_resolv_conf={path}")
    assert await never(found, "192.0.2.53", "192.0.2.54") == ["192.0.2.53"]
    parts = await make_outside_parts(CurrentConfig(found), elapsed=lambda: 0.0)
    path.write_text("nameserver 192.0.2.54\n")
    assert parts.never.look()
    assert parts.never.why(IPv4Address("192.0.2.54"))
    assert await never(config(tmp_path, f"paths.host_resolv_conf={path}", "dns.upstreams=none"), "192.0.2.54") == []


@pytest.mark.parametrize("name", ["web.shop.acme.cell.internal", "backend.apps.internal", "x.example.test"])
def test_the_domains_of_all_names_that_the_cell_gives_are_inside(tmp_path: Path, name: str) -> None:
    found = config(tmp_path, "dns.names=['{app}.example.test']")
    assert Inside.of(found).has(HostPattern(name))
    assert not Inside.of(found).has(HostPattern("example.org"))


@pytest.mark.parametrize("key", ["egress", "ingress"])
async def test_a_default_of_agent_yaml_is_what_a_check_goes_by(tmp_path: Path, key: str) -> None:
    for overrides, is_allowed in (((), False), ((f"{key}.default=allow",), True)):
        defaults = (await make_outside_parts(CurrentConfig(config(tmp_path, *overrides)), elapsed=lambda: 0.0)).defaults
        found = {"egress": defaults.egress_allowed, "ingress": defaults.ingress_allowed()}
        assert found == {"egress": False, "ingress": False} | {key: is_allowed}
        assert defaults.source == str(tmp_path / "agent.yaml")
