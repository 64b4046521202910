"""A stream that the agent has cut is not told as ended, too, whichever of both is heard of first."""

import tracemalloc
from ipaddress import IPv4Address

from agent.insight.flows.live_flow import LiveFlow
from agent.insight.flows.stream_resets import MOMENT, StreamResets
from dataplane.flows.tunnel_table import StreamEnds

WEB, API = IPv4Address("10.255.1.2"), IPv4Address("10.255.1.3")
ENDS, OTHER = StreamEnds(WEB, API, 8080), StreamEnds(WEB, API, 9000)
FLOW = LiveFlow("1", "acme/shop/web", "acme/shop/api", str(WEB), 40000, str(API), "tcp", 8080, "closed", "", "")


def test_a_reset_is_an_end_after_a_moment_in_which_nothing_was_cut() -> None:
    resets = StreamResets()
    resets.add(ENDS, FLOW, now=1.0)
    resets.cut(OTHER, now=1.1)
    assert list(resets.due(now=1.0 + MOMENT / 2)) == []
    assert list(resets.due(now=1.0 + MOMENT)) == [FLOW]
    assert not resets


def test_what_was_cut_is_no_end_whether_its_reset_comes_before_or_after() -> None:
    resets = StreamResets()
    resets.add(ENDS, FLOW, now=1.0)
    resets.cut(ENDS, now=1.1)
    resets.add(ENDS, FLOW, now=1.2)
    assert list(resets.due(now=9.0)) == []


def test_a_cut_is_over_after_a_moment() -> None:
    resets = StreamResets()
    resets.cut(ENDS, now=1.0)
    resets.add(ENDS, FLOW, now=1.0 + 2 * MOMENT)
    assert list(resets.due(now=9.0)) == [FLOW]


def test_a_cut_is_over_after_a_moment_though_another_was_made_again_since() -> None:
    resets = StreamResets()
    resets.cut(ENDS, now=1.0)
    resets.cut(OTHER, now=1.2)
    resets.cut(ENDS, now=1.4)
    resets.add(ENDS, FLOW, now=1.8)
    resets.add(OTHER, FLOW, now=1.8)
    assert list(resets.due(now=9.0)) == [FLOW]


def test_cuts_of_which_no_reset_comes_are_not_kept() -> None:
    resets = StreamResets()
    tracemalloc.start()
    try:
        for number in range(20_000):
            resets.cut(StreamEnds(WEB, API, number), now=float(number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000  # octets
