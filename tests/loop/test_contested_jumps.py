"""Three repairs of a jump in a row are an alarm; peace ends it; a jump that is gone is always put back."""

from agent.loop.contested_jumps import ALARM_SECONDS, ROW_SECONDS, TIMES, ContestedJumps
from dataplane.tables import ChainKey

FORWARD = ChainKey(4, "filter", "FORWARD")
WANTED, MOVED = {FORWARD: (0,)}, {FORWARD: (1,)}


def alarmed(*, now: float = 0.0) -> ContestedJumps:
    contested = ContestedJumps()
    for second in range(TIMES):
        assert not contested.concedes(MOVED, wanted=WANTED, now=now + second)
    assert contested.concedes(MOVED, wanted=WANTED, now=now + TIMES)
    return contested


def test_the_fourth_repair_in_a_row_is_an_alarm() -> None:
    assert alarmed().alarm


def test_repairs_now_and_then_are_no_alarm() -> None:
    contested = ContestedJumps()
    for time in range(10):
        assert not contested.concedes(MOVED, wanted=WANTED, now=time * (ROW_SECONDS + 1))


def test_after_a_pause_the_jump_is_repaired_again_and_quiet_ends_the_alarm() -> None:
    contested = alarmed()
    assert contested.concedes(MOVED, wanted=WANTED, now=TIMES + ALARM_SECONDS - 1)
    contested.concedes(WANTED, wanted=WANTED, now=TIMES + 2 * ALARM_SECONDS)
    assert not contested.alarm


def test_a_missing_jump_is_put_back_even_during_an_alarm() -> None:
    assert not alarmed().concedes({}, wanted=WANTED, now=TIMES + 1)


def test_an_undisturbed_host_is_no_alarm() -> None:
    contested = ContestedJumps()
    assert not any(contested.concedes(WANTED, wanted=WANTED, now=float(time)) for time in range(100))
