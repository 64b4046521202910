"""Sets of addresses of names in a real kernel: made by plans, filled by answers, emptied by time alone."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from dataplane.sets import names as name_sets
from dataplane.sets.known_names import KnownNames
from dataplane.sets.names import NameSets
from host.namespace import run_in
from tests.testlib.netns import Netns

ONE, TWO = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
SET, WIDE = "cellnet-name-0123", "cellnet-name-4567"
PATTERNS = {SET: ("a.example", "b.example"), WIDE: ("*.example",)}


class Kernel:
    """A namespace with its sets, and what is known beside them."""

    def __init__(self, place: Netns) -> None:
        self.place = place
        self.known = KnownNames(clock=lambda: self.now)
        self.now = 0.0
        self.sets = self.new()

    def new(self) -> NameSets:
        """As another process begins with."""
        return run_in(self.place.path, lambda: NameSets(self.known))

    def members(self, name: str) -> dict[str, int]:
        """The addresses in a set, each with the seconds that it has left."""
        lines = self.place.run("ipset", "list", name).partition("Members:")[2].split("\n")
        return {line.split()[0]: int(line.split()[2]) for line in lines if line}


@pytest.fixture
def kernel(netns: Callable[[str], Netns]) -> Iterator[Kernel]:
    made = Kernel(netns("sets"))
    made.sets.put(PATTERNS)
    yield made
    made.sets.close()


def test_an_answer_is_in_every_set_whose_names_mean_it_for_as_long_as_it_holds(kernel: Kernel) -> None:
    assert kernel.sets.open("a.example", [ONE], seconds=300, into=[SET]) == (ONE,)
    assert kernel.sets.open("c.example", [TWO], seconds=5, into=[WIDE]) == (TWO,)
    assert kernel.members(SET).keys() == {str(ONE)}
    assert 290 <= kernel.members(WIDE)[str(ONE)] <= 300
    assert 50 <= kernel.members(WIDE)[str(TWO)] <= 60


def test_an_answer_again_gives_it_its_time_again(kernel: Kernel) -> None:
    kernel.sets.open("a.example", [ONE], seconds=60, into=[SET])
    kernel.now += 40
    kernel.sets.open("a.example", [ONE], seconds=600, into=[SET])
    assert kernel.members(SET)[str(ONE)] > 500


def test_a_set_that_is_made_later_has_what_is_known(kernel: Kernel) -> None:
    kernel.sets.open("a.example", [ONE], seconds=300, into=[SET])
    kernel.sets.put({"cellnet-name-89ab": ("a.example", "more.example")})
    assert kernel.members("cellnet-name-89ab").keys() == {str(ONE)}


def test_a_set_that_is_there_is_not_emptied_by_the_next_process(kernel: Kernel) -> None:
    kernel.sets.open("a.example", [ONE], seconds=300, into=[SET])
    kernel.known = KnownNames(clock=lambda: kernel.now)
    after = kernel.new()
    assert after.read() == {SET: (), WIDE: ()}
    after.put(PATTERNS)
    assert after.read() == PATTERNS
    assert kernel.members(SET).keys() == {str(ONE)}
    after.close()


def test_what_has_flows_stays_and_what_is_over_goes(kernel: Kernel) -> None:
    kernel.sets.open("a.example", [ONE, TWO], seconds=60, into=[SET])
    kernel.now += 55
    kernel.sets.renew([ONE])
    kernel.now += 1000
    kernel.sets.renew([])
    assert not list(kernel.known.all())


def test_a_flow_that_is_seen_a_moment_late_opens_its_address_again(kernel: Kernel) -> None:
    kernel.sets.open("a.example", [ONE], seconds=60, into=[SET])
    kernel.place.run("ipset", "del", SET, str(ONE))
    kernel.now += 90
    kernel.sets.renew([ONE])
    assert kernel.members(SET).keys() == {str(ONE)}


def test_what_another_program_has_changed_is_mended_and_nothing_else(kernel: Kernel) -> None:
    kernel.sets.open("a.example", [ONE], seconds=300, into=[SET])
    assert kernel.sets.mend() == 0
    kernel.place.run("ipset", "flush", SET)
    kernel.place.run("ipset", "add", SET, str(TWO))
    assert kernel.sets.mend() == 2
    assert kernel.members(SET).keys() == {str(ONE)}
    kernel.place.run("ipset", "destroy", SET)
    assert SET not in kernel.sets.read()


def test_a_set_that_is_full_takes_no_more_and_says_so(netns: Callable[[str], Netns], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_sets, "CAPACITY", 64)
    kernel = Kernel(netns("full"))
    kernel.sets.put(PATTERNS)
    many = tuple(ONE + number for number in range(400))
    open_now = kernel.sets.open("a.example", many, seconds=60, into=[SET])
    assert 0 < len(open_now) < 400
    assert set(map(str, open_now)) == kernel.members(SET).keys()
    assert kernel.sets.open("z.other", many, seconds=60, into=[]) == many, "no set of its own is full"
    kernel.sets.close()


def test_a_set_that_is_dropped_is_gone(kernel: Kernel) -> None:
    kernel.sets.drop([SET])
    assert kernel.sets.read() == {WIDE: PATTERNS[WIDE]}
    assert kernel.sets.open("a.example", [ONE], seconds=60, into=[]) == (ONE,)


def test_names_of_one_set_that_are_too_many_take_nothing_from_other_sets(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below `*.example` there are as many as the owner of that likes, and each may hold for a day."""
    monkeypatch.setattr(name_sets, "MOST_KNOWN", 3)
    for number in range(10):
        found = kernel.sets.open(f"n{number}.example", [ONE, TWO], seconds=86_400, into=[WIDE])
        assert found == ((ONE, TWO), (ONE,), ())[min(number, 2)]
    assert len(kernel.known) == 2
    assert kernel.sets.open("a.example", [ONE], seconds=60, into=[SET]) == (ONE,)
    assert kernel.sets.open("n0.example", [ONE], seconds=60, into=[WIDE]) == (ONE,), "what is known goes on"
    kernel.now += 86_400 + 1_000
    kernel.sets.renew([])
    kernel.sets.mend()
    assert kernel.sets.open("n9.example", [ONE, TWO], seconds=60, into=[WIDE]) == (ONE, TWO)
