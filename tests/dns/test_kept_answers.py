"""What the hop keeps of answers: as much as there is room for, whatever the owners of names put into theirs."""

from ipaddress import IPv4Address

from dataplane.dns.hop.kept import KeptAnswers
from dataplane.dns.hop.messages import FoundAddresses

ONE = IPv4Address("192.0.2.1")


def of(size: int) -> FoundAddresses:
    return FoundAddresses(tuple(ONE + number for number in range(size)), 30)


def test_those_that_were_put_first_go_when_there_is_no_more_room() -> None:
    kept = KeptAnswers[str](room=12)
    for name, size in (("a", 3), ("b", 3), ("c", 3)):
        kept.put(name, of(size), end=60.0)
    assert kept.get("a") == (of(3), 60.0)
    kept.put("d", of(4), end=60.0)
    assert [name for name in "abcd" if kept.get(name)] == ["c", "d"]


def test_one_that_is_put_again_takes_its_own_room_and_no_other() -> None:
    kept = KeptAnswers[str](room=12)
    kept.put("a", of(3), end=60.0)
    kept.put("b", of(3), end=60.0)
    for size in (3, 7, 7):
        kept.put("a", of(size), end=70.0)
    assert (kept.get("a"), kept.get("b")) == ((of(7), 70.0), (of(3), 60.0))


def test_one_that_is_larger_than_all_room_is_not_kept() -> None:
    kept = KeptAnswers[str](room=12)
    kept.put("a", of(12), end=60.0)
    assert kept.get("a") is None
    kept.put("b", of(11), end=60.0)
    assert kept.get("b") == (of(11), 60.0)
