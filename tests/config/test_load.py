"""agent.yaml as its users meet it: defaults, every key, overrides, the root, and mistakes reported all at once."""

from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from agent.config.config import BackendChoice, Config, Verdict
from agent.config.load import load
from agent.config.problems import InvalidSource
from agent.errors import HostRefused
from dataplane.state import HostService
from docs.pages import config as config_page

REPOSITORY = Path(__file__).parents[2]
EVERYTHING = """
cell: cell-7
underlay: {address: 192.0.2.7, interface: ens3}
overlay: {network: 10.128.0.0/9, cell_prefix: 22, mtu: 1400}
store: {etcd: {endpoints: ['https://192.0.2.1:2379', 'https://c2.example:2379'], prefix: /lab, ca: /srv/etcd.crt,
  cert: /srv/c.crt, key: /srv/c.key, username: cell-7, password_file: /srv/secret}}
policies: /srv/policies
firewall: {backend: nft}
tls: {port: 8443, mtls: none, leaf_lifetime: 90s}
trust_domain: example.org
dns: {domain: cells.example.org, route_domains: [a.internal, b.internal], names: ['{app}.{space}.cpln.local']}
routes: {claim_at_attach: false}
egress: {default: allow}
host_services: [{protocol: udp, port: 53}, {port: 9001, protocol: tcp}]
envoy: {binary: /opt/envoy, user: envoy, concurrency: 2}
paths: {state: /srv/state, run: /srv/run, ca: /srv/ca}
"""


def loaded(folder: Path, text: str, *overrides: str, root: Path | None = None) -> Config:
    file = folder / "agent.yaml"
    file.write_text(text)
    return load(file, root=root, hostname="host", overrides=overrides)


def mistakes(folder: Path, text: str, *overrides: str) -> list[str]:
    """`line:column: message` of each problem."""
    with pytest.raises(InvalidSource) as caught:
        loaded(folder, text, *overrides)
    return [f"{each.line}:{each.column}: {each.message}" for each in caught.value.problems]


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path / "none.yaml", root=None, hostname="Host-1.example")
    assert (config.cell, config.underlay.address, config.overlay.mtu) == ("host-1.example", None, None)
    assert (config.overlay.network, config.overlay.cell_prefix) == (IPv4Network("10.255.0.0/16"), 24)
    assert (config.tls.port, config.tls.leaf_lifetime) == (61443, timedelta(hours=24))
    assert (config.trust_domain, config.dns.domain) == ("cell.internal", "cell.internal")
    assert (config.firewall.backend, config.egress.default) == (BackendChoice.AUTO, Verdict.DENY)
    assert config.policies == Path("/etc/cellnet/policies.d")
    assert config.paths.control_socket == Path("/run/cellnet/agent.sock")
    assert config.paths.database == Path("/var/lib/cellnet/cellnet.db")


def test_a_file_that_is_required_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(HostRefused) as refused:
        load(tmp_path / "none.yaml", root=None, hostname="host", required=True)
    assert refused.value.what == f"cannot read {tmp_path}/none.yaml: No such file or directory"


def test_the_file_knows_what_has_become_of_it_since(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    missing = load(path, root=None, hostname="host").file
    path.write_text("cell: one\n")
    there = load(path, root=None, hostname="host").file
    assert missing is not None
    assert there is not None
    assert (missing.change(), there.change()) == ("was not there when the agent started", "")
    path.write_text("cell: one\n")
    assert there.change() == ""
    path.write_text("cell: two\n")
    assert there.change() == "has changed since the agent started"
    path.unlink()
    assert (missing.change(), there.change()) == ("", "is gone")


@pytest.mark.parametrize("text", ["", "# all commented out\n", "---\n", "{}"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text) == load(tmp_path / "none.yaml", root=None, hostname="host")


def test_every_key_is_taken(tmp_path: Path) -> None:
    config = loaded(tmp_path, EVERYTHING)
    default = load(tmp_path / "none.yaml", root=None, hostname="host")
    assert config.cell == "cell-7"
    assert config.underlay.address == IPv4Address("192.0.2.7")
    assert config.underlay.interface == "ens3"
    assert (config.overlay.network, config.overlay.cell_prefix, config.overlay.mtu) == (IPv4Network("10.128.0.0/9"), 22, 1400)
    assert config.tls.leaf_lifetime == timedelta(seconds=90)
    assert config.dns.route_domains == ("a.internal", "b.internal")
    assert config.host_services == (HostService("udp", 53), HostService("tcp", 9001))
    assert (config.envoy.binary, config.envoy.user, config.envoy.concurrency) == (Path("/opt/envoy"), "envoy", 2)
    sections = (
        "underlay",
        "overlay",
        "store",
        "policies",
        "firewall",
        "tls",
        "trust_domain",
        "dns",
        "routes",
        "egress",
        "envoy",
        "paths",
    )
    for section in sections:
        assert getattr(config, section) != getattr(default, section), section


def test_paths_follow_state_and_run_unless_given_themselves(tmp_path: Path) -> None:
    paths = loaded(tmp_path, EVERYTHING).paths
    assert (paths.database, paths.last_good, paths.ca) == (
        Path("/srv/state/cellnet.db"), Path("/srv/state/policies"), Path("/srv/ca"),
    )  # fmt: skip
    assert (paths.control_socket, paths.netns, paths.identity) == (
        Path("/srv/run/agent.sock"), Path("/srv/run/netns"), Path("/srv/run/identity"),
    )  # fmt: skip


def test_the_root_prefixes_every_path_but_the_envoy_program(tmp_path: Path) -> None:
    config = loaded(tmp_path, EVERYTHING, root=Path("/lab/1"))
    assert config.policies == Path("/lab/1/srv/policies")
    assert config.paths.ca == Path("/lab/1/srv/ca")
    assert config.paths.control_socket == Path("/lab/1/srv/run/agent.sock")
    assert config.envoy.binary == Path("/opt/envoy")
    assert config.store is not None
    assert config.store.password_file == Path("/lab/1/srv/secret")


@pytest.mark.parametrize("domain", ["cell.internal", "apps.cell.internal"])
def test_a_route_domain_among_the_apps_own_names_is_refused(tmp_path: Path, domain: str) -> None:
    assert mistakes(tmp_path, f"dns:\n  route_domains: [apps.internal, {domain}]\n") == [
        f"2:18: no route can lie below {domain}: in cell.internal only the apps' own names are"
    ]


@pytest.mark.parametrize("domain", ["localhost", "cell.localhost", "arpa", "255.10.in-addr.arpa", "cellnet.invalid", "invalid"])
def test_a_domain_that_means_something_else_holds_no_names_of_apps(tmp_path: Path, domain: str) -> None:
    found = mistakes(tmp_path, f"dns:\n  domain: {domain}\n  route_domains: [apps.internal, {domain}]\n")
    assert [each.partition(",")[0] for each in found] == [
        f"{place}: '{domain}' ends in {domain.rpartition('.')[2]}" for place in ("2:11", "3:34")
    ]


def test_a_home_may_name_its_apps_as_it_names_its_computers(tmp_path: Path) -> None:
    text = "dns: {domain: cell.home.arpa, route_domains: [apps.home.arpa, notlocalhost], names: ['{app}.x.home.arpa']}\n"
    assert loaded(tmp_path, text).dns.zones == ("cell.home.arpa", "apps.home.arpa", "notlocalhost", "x.home.arpa")


def test_an_override_wins_over_the_file_and_a_later_one_over_an_earlier(tmp_path: Path) -> None:
    config = loaded(tmp_path, "tls: {port: 1, leaf_lifetime: 7d}", "tls.port=2", "tls={port: 3}", "dns.route_domains=[x.y]")
    assert (config.tls.port, config.tls.leaf_lifetime) == (3, timedelta(days=7))
    assert config.dns.route_domains == ("x.y",)


DNS_KEYS = ("address", "domain", "route_domains", "names", "upstreams", "user", "hop_user")


def test_all_mistakes_of_a_file_and_of_overrides_are_reported_at_once(tmp_path: Path) -> None:
    text = "cell: yes\ntls: {prot: 8, port: 0x1f}\noverlay: {network: 10.255.0.1/16}\ndns: foo\n"
    assert mistakes(tmp_path, text, "egress.default=maybe") == [
        "1:7: expected text, found 'yes', what YAML reads as true or false",
        "2:7: unknown key 'prot'",
        "2:22: expected a port, found '0x1f', what YAML may read as another number",
        "3:20: '10.255.0.1/16' has bits set behind its prefix",
        "4:6: expected a mapping with some of " + ", ".join(DNS_KEYS) + ", found 'foo', text",
        "1:1: 'maybe' is not possible here",
    ]


def test_a_mistake_prints_file_line_column_the_line_a_caret_and_a_hint(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource) as caught:
        loaded(tmp_path, "tls:\n  prot: 61443\n")
    assert str(caught.value) == (
        f"{tmp_path}/agent.yaml:2:3: unknown key 'prot'\n  prot: 61443\n  ^\nhint: did you mean 'port'?"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("overlay: {cell_prefix: 16}", "1:24: cell_prefix leaves no cells"),
        ("overlay: {network: 127.0.0.0/8}", "1:20: 127.0.0.0/8 cannot be an overlay"),
        ("underlay: {address: 10.255.3.4}", "1:21: 10.255.3.4 lies inside the overlay 10.255.0.0/16"),
        ("underlay: {address: 22:22}", "1:21: '22:22' is not an IPv4 address"),
        ("tls: {leaf_lifetime: 24}", "1:22: '24' is not a duration"),
        ("tls: {leaf_lifetime: 0s}", "1:22: '0s' is not a duration"),
        ("store: etcd", "1:8: an etcd is written with its endpoints"),
        ("store: {etcd: {}}", "1:15: etcd needs endpoints"),
        ("store: {etcd: {endpoints: [h:1]}}", "1:28: 'h:1' is not an endpoint of etcd"),
        ("store: {etcd: {endpoints: ['https://h:1'], key: /k}}", "1:15: etcd's cert and key go together"),
        (
            "store: {etcd: {endpoints: ['http://h:1'], username: u, password_file: /p}}",
            "1:15: etcd is given secrets or a CA, and an endpoint without TLS",
        ),
        ("tls: {port: 65536}", "1:13: port 65536 is out of range"),
        ("tls: {port: 15001}", "1:13: port 15001 is where tunnels between containers begin or end"),
        ("tls: {port: 15008}", "1:13: port 15008 is where tunnels between containers begin or end"),
        ("tls: {port: '443'}", "1:13: expected a port, found '443', text"),
        ("tls: {port: 010}", "1:13: expected a port, found '010', what YAML may read as another number"),
        ("tls: {mtls: strictly}", "1:13: 'strictly' is not possible here"),
        ("paths: {run: run/cellnet}", "1:14: 'run/cellnet' is not an absolute path"),
        ("paths: {run: /a/../b}", "1:14: '/a/../b' is not an absolute path"),
        ("host_services: [{protocol: tcp}]", "1:17: a host service needs 'port'"),
        ("host_services: {protocol: tcp, port: 1}", "1:16: expected a list, found a mapping"),
        ("- cell: a", "1:1: expected keys with values, such as `store: sqlite`, found a list"),
        ("cell:", "1:6: expected text, found nothing"),
        ("cell: a\ncell: b", "2:1: key 'cell' is given twice"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(tmp_path: Path, text: str, message: str) -> None:
    assert mistakes(tmp_path, text) == [message]


def test_a_root_too_long_for_sockets_is_refused_before_anything_binds(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match=r"more than 107 bytes"):
        load(tmp_path / "none", root=Path("/" + "x" * 90), hostname="host")


def test_a_host_name_that_cannot_name_a_cell_asks_for_a_cell_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match="set `cell:`"):
        load(tmp_path / "none", root=None, hostname="my_host")
    assert load(tmp_path / "none", root=None, hostname="my_host", overrides=["cell=mine"]).cell == "mine"


def test_a_config_that_cannot_be_read_is_the_hosts_refusal(tmp_path: Path) -> None:
    with pytest.raises(HostRefused, match="cannot read"):
        load(tmp_path, root=None, hostname="host")


def test_the_documented_reference_is_the_one_the_code_makes() -> None:
    assert (REPOSITORY / "docs/config.md").read_text() == config_page.text()
