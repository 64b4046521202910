"""What other programs' rules on the host do to DNS: a translation of all that is for the host leads no question elsewhere."""

from collections.abc import Callable

import pytest

from dataplane.firewall.backends.backends import Backend, firewall
from tests.testlib.beds.dns import dns_bed
from tests.testlib.dns.client import Code, ask, ask_over_tcp
from tests.testlib.netns import Netns

REDIRECTED = (
    "-m addrtype --dst-type LOCAL -j DNAT --to-destination 10.77.0.1:5300"  # a container's published port 53, of another engine
)
CLOSED = (("INPUT", "DROP"), ("OUTPUT", "DROP"), ("FORWARD", "DROP"))


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_a_published_port_53_of_another_engine_takes_no_question(netns: Callable[[str], Netns], backend: Backend) -> None:
    with dns_bed(netns, firewall=firewall(backend)) as bed:
        for chain in ("PREROUTING", "OUTPUT"):
            for protocol in ("udp", "tcp"):
                rule = f"-t nat -A {chain} -p {protocol} --dport 53 {REDIRECTED}"
                bed.host.netns.run(f"iptables-{backend.value}", *rule.split())
        for node in (bed.containers[0], bed.cell):
            for over in (ask, ask_over_tcp):
                assert over(node, "nothing.cell.internal").code is Code.NXDOMAIN


@pytest.mark.parametrize("backend", list(Backend), ids=lambda each: each.value)
def test_a_host_that_drops_what_it_does_not_name_answers_all_the_same(netns: Callable[[str], Netns], backend: Backend) -> None:
    with dns_bed(netns, firewall=firewall(backend)) as bed:
        for chain, policy in CLOSED:
            bed.host.netns.run(f"iptables-{backend.value}", "-P", chain, policy)
        for over in (ask, ask_over_tcp):
            assert over(bed.containers[0], "nothing.cell.internal").code is Code.NXDOMAIN
