"""Those who follow events: how many there may be, what a slow one misses, and that the agent's end does not wait for them."""

import time
from pathlib import Path

import pytest

from agent.control import server
from agent.errors import Unavailable
from agent.insight.flows.followers import EACH, MOST, TOLD, WAITING, EventKind, EventWish, Followers
from agent.insight.refusals.denied import Pair, Reason
from tests.control.conftest import Curl
from tests.testlib.event_stream import EventStream
from tests.testlib.fakes.cell import FakeCell, serving
from tests.testlib.patience import eventually

ALL = EventWish(frozenset(TOLD), lambda _: True)
READER = 1000


def pair(port: int) -> Pair:
    return Pair("acme/shop/web", "acme/shop/api", "tcp", port, Reason.POLICY)


def tell(followers: Followers, port: int, kind: EventKind = EventKind.REFUSED) -> None:
    followers.tell(kind, pair(port), lambda: {"port": port})


def test_a_follower_gets_what_it_wants_and_nothing_else(tmp_path: Path) -> None:
    cell = FakeCell()
    with serving(cell, tmp_path / "agent.sock") as path, EventStream(path, "?kind=refused,cut&port=tcp/80") as told:
        for port, kind in ((80, EventKind.NEW), (81, EventKind.CUT), (80, EventKind.CUT), (80, EventKind.REFUSED)):
            tell(cell.followers, port, kind)
        eventually(lambda: told.of("refused", port=80))
        assert [each["kind"] for each in told.events] == ["following", "cut", "refused"]


def test_a_follower_that_reads_too_slowly_is_told_how_much_it_has_missed_and_holds_up_no_other() -> None:
    followers = Followers()
    slow, swift = followers.join(ALL, uid=0), followers.join(ALL, uid=0)
    taken = 0
    for port in range(WAITING + 12):
        tell(followers, port)
        taken += swift.take().count(b"event: refused")
    assert taken == WAITING + 12
    told = slow.take()
    assert told.count(b"event: refused") == WAITING
    assert b'"kind": "lost", "dropped": 12' in told
    assert slow.take() == b""


def test_one_reader_may_follow_so_often_all_of_them_so_often_and_root_in_any_case() -> None:
    followers = Followers()
    own = [followers.join(ALL, uid=READER) for _ in range(EACH)]
    with pytest.raises(Unavailable, match="too many follow"):
        followers.join(ALL, uid=READER)
    followers.leave(own[0])
    followers.join(ALL, uid=READER)
    for number in range(MOST - EACH):
        followers.join(ALL, uid=READER + 1 + number // EACH)
    with pytest.raises(Unavailable, match="too many follow"):
        followers.join(ALL, uid=READER + MOST)
    followers.join(ALL, uid=0)


def test_what_is_asked_for_wrongly_is_refused(curl: Curl) -> None:
    code, answer = curl("GET", "/v1/events?kind=new,gone")
    assert (code, answer["error"]["what"]) == (400, "'gone' is no kind of event")
    assert curl("GET", "/v1/events?apps=acme/shop/web")[0] == 400


def test_the_agents_end_does_not_wait_for_who_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SHUTDOWN_WITHIN", 3600.0)
    with serving(FakeCell(), tmp_path / "agent.sock", limit=0.05) as path:
        told = EventStream(path)
        time.sleep(0.2)  # a time limit is for other requests
        assert told.lives
    told.close()


def test_one_that_has_gone_is_noticed(curl: Curl) -> None:
    with EventStream(curl.path):
        assert curl.cell.followers.want(TOLD)
    eventually(lambda: not curl.cell.followers.want(TOLD))
