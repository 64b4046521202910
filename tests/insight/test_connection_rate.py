"""Whether many connections begin is known within a moment, and few are few again only after a while."""

from agent.insight.flows.connection_rate import LASTS, MANY, WINDOW, ConnectionRate


def test_many_in_a_moment_are_many_and_as_many_in_longer_are_not() -> None:
    rate = ConnectionRate()
    rate.add(0, now=1.0)
    found = []
    for count, now in ((MANY, 1.0 + WINDOW / 2), (0, 1.0 + WINDOW)):
        rate.add(count, now=now)
        found.append(rate.is_high)
    assert found == [False, True]
    rate = ConnectionRate()
    rate.add(0, now=1.0)
    rate.add(MANY, now=2.5)
    assert not rate.is_high


def test_few_are_few_again_after_a_while_of_less_than_half() -> None:
    rate = ConnectionRate()
    rate.add(0, now=1.0)
    rate.add(MANY, now=1.5)
    rate.add(int(MANY * 0.6), now=2.5)
    rate.add(int(MANY * 0.4), now=3.5)
    assert rate.is_high
    rate.add(0, now=2.5 + LASTS)
    assert not rate.is_high
