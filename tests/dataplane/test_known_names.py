"""What names stand for, and for how long: by the clock, over restarts, and while a flow lives."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.sets import known_names_file
from dataplane.sets.known_names import GRACE, LEAST, MOST, KnownNames
from dataplane.sets.known_names_file import KnownNamesFile
from dataplane.sets.name_patterns import NamePatterns

ONE, TWO = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


class Clock:
    """In a test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> KnownNames:
    return KnownNames(clock=clock)


@pytest.mark.parametrize(("seconds", "end"), [(0, LEAST), (5, LEAST), (300, 300), (10**9, 86_400)])
def test_an_address_holds_for_its_time_to_live_and_a_minute_at_least(
    known: KnownNames, clock: Clock, seconds: float, end: float
) -> None:
    assert known.remember("a.example", [ONE], seconds=seconds) == {ONE: clock.now + end}


def test_a_shorter_answer_takes_nothing_from_a_longer_one(known: KnownNames, clock: Clock) -> None:
    known.remember("a.example", [ONE], seconds=300)
    clock.now += 10
    assert known.remember("a.example", [ONE], seconds=5) == {ONE: clock.now + 290}


def test_what_is_over_is_known_for_a_while_and_goes_then(known: KnownNames, clock: Clock) -> None:
    known.remember("a.example", [ONE], seconds=60)
    clock.now += 60 + GRACE
    known.forget_old()
    assert known.lead_to(ONE, names=("a.example",))
    clock.now += 1
    known.forget_old()
    assert not known.lead_to(ONE, names=("a.example",))
    assert (len(known), list(known.all())) == (0, [])


def test_an_address_with_flows_holds_on_for_all_names_that_stand_for_it(known: KnownNames, clock: Clock) -> None:
    known.remember("a.example", [ONE, TWO], seconds=60)
    known.remember("b.example", [ONE], seconds=60)
    clock.now += 50
    assert known.renew([ONE]) == {name: {ONE: clock.now + LEAST} for name in ("a.example", "b.example")}
    clock.now += 30
    assert known.renew([TWO]) == {"a.example": {TWO: clock.now + LEAST}}, "a moment late"
    assert known.renew([IPv4Address("192.0.2.3")]) == {}


def test_one_name_has_so_many_addresses_and_no_more(known: KnownNames) -> None:
    many = [ONE + number for number in range(MOST + 5)]
    assert len(known.remember("a.example", many, seconds=60)) == MOST
    assert known.remember("a.example", many[-1:], seconds=60) == {}
    assert list(known.remember("a.example", many[:1], seconds=60)) == [ONE]
    assert list(known.remember("b.example", many[-1:], seconds=60)) == many[-1:]


def test_a_name_leads_to_its_own_addresses_by_the_patterns_that_mean_it(known: KnownNames) -> None:
    known.remember("a.example.org", [ONE], seconds=60)
    known.remember("example.org", [TWO], seconds=60)
    assert known.lead_to(ONE, names=("*.example.org",))
    assert not known.lead_to(TWO, names=("*.example.org",))
    assert known.addresses(("example.org", "x.example")).keys() == {TWO}
    assert known.addresses(("*.org",)).keys() == {ONE, TWO}


def test_patterns_mean_what_they_say() -> None:
    patterns = NamePatterns(["api.example.com", "*.example.org"])
    means = ("api.example.com", "a.example.org", "d.c.b.a.example.org")
    others = ("example.com", "a.api.example.com", "example.org", "evilexample.org", "org", "", "a.example.org.evil.example")
    dotted = (r"x\.example.org", r"a.x\.example.org")  # within a label: names below `org` alone
    assert [patterns.matches(each) for each in means] == [True] * len(means)
    assert not any(patterns.matches(each) for each in (*others, *dotted))


def test_a_file_has_all_of_it_for_the_next_agent(tmp_path: Path, clock: Clock) -> None:
    file = KnownNamesFile(tmp_path / "known-names")
    file.begin(())
    before = KnownNames(clock=clock, write=file.add)
    before.remember("a.example", [ONE, TWO], seconds=300)
    before.remember("a.example", [ONE], seconds=900)
    before.remember("b.example", [ONE], seconds=60)
    file.close()
    with (tmp_path / "known-names").open("a") as half:
        half.write("c.example 192.0.2.9 12")  # that is, 12345.6
    clock.now += 400
    after = KnownNames(clock=clock)
    after.recall(KnownNamesFile(tmp_path / "known-names").read())
    assert after.addresses(("a.example",)) == {ONE: clock.now + 500, TWO: clock.now}, "the second has its time of grace"
    assert after.lead_to(ONE, names=("b.example",))


def test_a_file_that_is_not_there_or_makes_no_sense_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "known-names"
    assert KnownNamesFile(path).read() == {}
    path.write_bytes(b"\xff\n\na.example\nb.example x 5\nc.example 192.0.2.1\nd.example 192.0.2.1 x\n")
    assert {name: dict(ends) for name, ends in KnownNamesFile(path).read().items() if ends} == {}


def test_a_file_that_has_become_long_is_written_anew_with_what_is_known(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_names_file, "MOST", 100)
    file = KnownNamesFile(tmp_path / "known-names")
    file.begin(())
    known = KnownNames(clock=clock, write=file.add)
    for _ in range(20):
        clock.now += 1
        known.remember("a.example", [ONE], seconds=60)
    assert file.is_long
    file.begin(known.all())
    known.remember("b.example", [TWO], seconds=60)
    lines = (tmp_path / "known-names").read_text().splitlines()
    assert lines == [f"a.example {ONE} {clock.now + 60}", f"b.example {TWO} {clock.now + 60}"]
    file.close()
