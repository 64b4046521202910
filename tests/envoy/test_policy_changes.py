"""Policies that change under load: no tunnel drains, no call is lost, and what was allowed holds for the next connection."""

from dataplane.envoy.translation import listener_key
from dataplane.state import Allow, InboundListener
from tests.testlib.attacks.bystander import Bystander
from tests.testlib.envoy import API
from tests.testlib.envoy_traffic import EchoApp, dial, exchange
from tests.testlib.patience import eventually
from tests.testlib.tunnels.pair import WEB_TAG, TunnelPair

CHANGES = 200
ALWAYS = Allow(WEB_TAG, "tcp", 8080, 8080)


def tunnels_into_api(tunnels: TunnelPair) -> set[str]:
    """The callers' ends of those that are open."""
    lines = tunnels.pair.api.run("ss", "-Htn", "state", "established", "sport = :15008").splitlines()
    return {line.split()[3] for line in lines}


def test_200_changes_of_policies_end_no_tunnel_and_no_call(tunnels: TunnelPair, app: EchoApp) -> None:
    other = EchoApp(tunnels.pair.api.path, port=8081)
    listener = tunnels.cell.table[listener_key(API, InboundListener)]
    with dial(tunnels.pair.web.path, port=8080) as live, Bystander(lambda: dial(tunnels.pair.web.path, port=8080)) as calls:
        assert exchange(live, b"before") == b"before"
        before = tunnels_into_api(tunnels)
        for number in range(CHANGES):
            crowd = (Allow(1000 + number % 7 + each, "tcp", 8000, 8000 + number) for each in range(40))
            allowed = number % 10 == 0
            tunnels.allow(ALWAYS, *crowd, *([Allow(WEB_TAG, "tcp", 8081, 8081)] if allowed else []))
            if number % 10 < 2:
                assert tunnels.reaches(8081) is allowed
        assert exchange(live, b"after") == b"after"
        assert before <= tunnels_into_api(tunnels)
        eventually(lambda: calls.calls() > 20)
    other.close()
    assert calls.failures == []
    assert tunnels.cell.table[listener_key(API, InboundListener)] is listener
    assert tunnels.cell.status().refused == {}
