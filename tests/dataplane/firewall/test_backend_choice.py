"""Which backend a host gets, asked in namespaces where rules of ours or of others are, or none."""

from collections.abc import Callable

import pytest

from dataplane.firewall.backends.backends import Backend, clear_other, detect, firewall
from host.namespace import run_in
from tests.testlib.hosts import make_host
from tests.testlib.netns import Netns

pytestmark = pytest.mark.release

RULE = ("-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")


def test_a_host_without_rules_gets_what_its_iptables_is(netns: Callable[[str], Netns]) -> None:
    assert run_in(netns("host").path, detect) is Backend.NFT


def test_empty_legacy_tables_do_not_count(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    host.run("iptables-legacy-save", "-t", "filter")
    assert run_in(host.path, detect) is Backend.NFT


def test_a_host_with_legacy_rules_only_gets_legacy(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    host.run("iptables-legacy", *RULE)
    assert run_in(host.path, detect) is Backend.LEGACY


def test_a_host_with_rules_in_both_gets_nft(netns: Callable[[str], Netns]) -> None:
    host = netns("host")
    host.run("iptables-legacy", *RULE)
    host.run("iptables-nft", *RULE)
    assert run_in(host.path, detect) is Backend.NFT


@pytest.mark.parametrize("backend", Backend)
def test_where_our_rules_are_they_stay(netns: Callable[[str], Netns], backend: Backend) -> None:
    host = make_host(netns, containers=1, firewall=firewall(backend))
    host.become(host.with_workloads(host.workload(0)))
    other = next(each for each in Backend if each is not backend)
    host.netns.run(f"iptables-{other.value}", *RULE)
    assert run_in(host.netns.path, detect) is backend
    host.close()


@pytest.mark.parametrize("backend", Backend)
def test_what_a_change_of_mind_leaves_is_taken_out_and_nothing_else(netns: Callable[[str], Netns], backend: Backend) -> None:
    host = make_host(netns, containers=1, firewall=firewall(backend))
    host.netns.run(f"iptables-{backend.value}", *RULE)
    host.become(host.with_workloads(host.workload(0)))
    other = next(each for each in Backend if each is not backend)
    assert run_in(host.netns.path, lambda: clear_other(backend)) == 0
    assert run_in(host.netns.path, lambda: clear_other(other)) > 20
    saved = host.netns.run(f"iptables-{backend.value}-save")
    assert "CELLNET" not in saved
    assert "192.0.2.1/32" in saved
    host.close()
