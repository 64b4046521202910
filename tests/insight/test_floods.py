"""A container that begins too many flows is heard of in part, and only for as long as it does."""

from collections import Counter
from ipaddress import IPv4Address

from agent.insight.flows.floods import LASTS, Floods
from dataplane.flows.event_filter import MOST_FLOODING, SAMPLE

ONE, OTHER, THIRD = (IPv4Address("10.255.1.2") + number for number in range(3))
MOST = 10_000


def test_nothing_floods_while_all_can_be_taken() -> None:
    floods = Floods(most=MOST)
    assert floods.judge(Counter({ONE: 500, OTHER: 1}), pressed=False, now=1.0) == frozenset()
    assert floods.flooding == frozenset()


def test_those_that_send_most_flood_until_the_others_are_half() -> None:
    floods = Floods(most=MOST)
    assert floods.judge(Counter({ONE: 500, OTHER: 1}), pressed=True, now=1.0) == {ONE}
    floods = Floods(most=MOST)
    assert floods.judge(Counter({ONE: 400, OTHER: 300, THIRD: 300}), pressed=True, now=1.0) == {ONE, OTHER}


def test_a_flood_is_over_when_it_was_none_for_a_second() -> None:
    floods = Floods(most=MOST)
    floods.judge(Counter({ONE: 500}), pressed=True, now=1.0)
    some = 2 * MOST // SAMPLE // 10  # of what is told in part, in a tenth of a second, twice too much
    floods.judge(Counter({ONE: some}), pressed=False, now=1.1)
    floods.judge(Counter({ONE: some // 4}), pressed=False, now=1.2)
    floods.judge(Counter(), pressed=False, now=1.0 + LASTS + 0.05)
    assert floods.flooding == {ONE}
    floods.judge(Counter(), pressed=False, now=1.1 + LASTS)
    assert floods.flooding == frozenset()


def test_the_kernels_program_has_a_bound() -> None:
    floods = Floods(most=MOST)
    for number in range(2 * MOST_FLOODING):
        floods.judge(Counter({ONE + number: 500}), pressed=True, now=1.0)
    assert len(floods.flooding) == MOST_FLOODING
