"""Which addresses of other cells are not what they were: gone for good, replaced, or only out of touch."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from agent.cells.departures import ANNOUNCE_SECONDS, Departures
from agent.cells.peers import Peers
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName
from tests.testlib.fakes.store import MemoryStore
from tests.testlib.samples import API, WEB

OVERLAY, MINE, THEIRS = (IPv4Network(each) for each in ("10.255.0.0/16", "10.255.1.0/24", "10.255.2.0/24"))
THERE, NEXT = THEIRS[2], THEIRS[3]
TAGS = {WEB: 1, API: 2}


class Neighbours:
    """This cell and one other that share a store; this one's clock stands until it is set."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.here = MemoryStore()
        self.there = self.here.beside()
        self.peers = Peers(self.here, name="one", overlay=OVERLAY, subnet=MINE)
        self.departures = Departures(
            self.here, owner=self.peers.owner, cells=lambda: self.peers.all, elapsed=lambda: self.clock
        )

    async def begin(self, *endpoints: Endpoint) -> None:
        await self.there.announce(CellRecord("two", "id", THEIRS, IPv4Address("10.77.0.2"), "0.1.0"))
        await self.there.publish(endpoints)
        await self.take()

    async def take(self, tags: Mapping[AppName, int] = TAGS) -> Mapping[IPv4Address, int]:
        await self.peers.routes()
        return self.departures.take(tags)

    async def come_back(self) -> None:
        await self.there.announce(CellRecord("two", "id", THEIRS, IPv4Address("10.77.0.2"), "0.1.0"))


def web(address: IPv4Address = THERE) -> Endpoint:
    return Endpoint("two", "web", WEB, 0, address)


def api(address: IPv4Address = THERE) -> Endpoint:
    return Endpoint("two", "api", API, 0, address)


async def test_the_first_time_all_that_is_known_is_asked_about() -> None:
    both = Neighbours()
    await both.there.announce(CellRecord("two", "id", THEIRS, IPv4Address("10.77.0.2"), "0.1.0"))
    await both.there.publish([web(), api(NEXT)])
    assert await both.take({WEB: 1}) == {THERE: 1}, "of what has no tag here yet nothing is known"
    assert await both.take() == {}


async def test_what_went_before_the_first_time_has_departed_too() -> None:
    both = Neighbours()
    await both.there.announce(CellRecord("two", "id", THEIRS, IPv4Address("10.77.0.2"), "0.1.0"))
    await both.there.publish([web(), api(NEXT)])
    await both.there.publish([api(NEXT)])
    assert await both.take() == {THERE: 0, NEXT: 2}


async def test_a_container_that_a_living_cell_takes_away_has_departed() -> None:
    both = Neighbours()
    await both.begin(web(), api(NEXT))
    await both.there.publish([api(NEXT)])
    assert await both.take() == {THERE: 0}
    assert await both.take() == {}


async def test_an_address_that_becomes_anothers_has_that_ones_tag() -> None:
    both = Neighbours()
    await both.begin(web())
    await both.there.publish([api()])
    assert await both.take({WEB: 1}) == {}
    assert await both.take() == {THERE: 2}


async def test_a_cell_that_was_away_and_is_back_at_one_look_has_taken_nothing_away() -> None:
    both = Neighbours()
    await both.begin(web(), api(NEXT))
    both.there.lapse()
    await both.there.publish([])
    await both.come_back()
    assert await both.take() == {}
    await both.there.publish([web()])
    assert await both.take() == {THERE: 1}
    both.clock = ANNOUNCE_SECONDS
    assert await both.take() == {NEXT: 0}
    await both.there.publish([])
    assert await both.take() == {THERE: 0}, "by the same signs of life"


async def test_a_cell_that_is_out_of_touch_has_taken_nothing_away() -> None:
    both = Neighbours()
    await both.begin(web(), api(NEXT))
    both.there.lapse()
    both.clock = 1000.0
    assert await both.take() == {}
    assert both.departures.wait() is None
    await both.there.publish([])
    await both.come_back()
    assert await both.take() == {}
    both.clock += ANNOUNCE_SECONDS / 2
    await both.there.publish([web()])
    assert await both.take() == {THERE: 1}
    assert both.departures.wait() == ANNOUNCE_SECONDS / 2
    both.clock += ANNOUNCE_SECONDS / 2
    assert await both.take() == {NEXT: 0}, "it has had the time to say"
    assert both.departures.wait() is None


async def test_a_cell_that_goes_again_is_given_the_time_again() -> None:
    both = Neighbours()
    await both.begin(web())
    both.there.lapse()
    await both.take()
    await both.there.publish([])
    await both.come_back()
    await both.take()
    both.there.lapse()
    both.clock += ANNOUNCE_SECONDS
    assert await both.take() == {}
    assert both.departures.wait() is None


async def test_containers_of_a_cell_that_was_removed_have_departed() -> None:
    both = Neighbours()
    await both.begin(web())
    both.there.lapse()
    assert await both.take() == {}
    await both.here.remove_cell("two", now=0.0)
    assert await both.take() == {}
    both.clock += ANNOUNCE_SECONDS
    assert await both.take() == {THERE: 0}


async def test_a_cell_whose_record_goes_for_a_moment_has_taken_nothing_away() -> None:
    for returns in (True, False):
        both = Neighbours()
        await both.begin(web())
        both.there.lapse()
        await both.here.remove_cell("two", now=0.0)
        assert await both.take() == {}
        if returns:
            await both.come_back()
            await both.there.publish([web()])
        both.clock = ANNOUNCE_SECONDS
        assert await both.take() == {THERE: 1 if returns else 0}
