"""Calls inside namespaces that may not come back."""

import threading
import time
from collections.abc import Callable

import pytest

from host.namespace import OWN, NamespaceId
from host.visits import HOME, Visits
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually


def where() -> NamespaceId:
    return NamespaceId.of(OWN)


def test_a_call_runs_inside_and_what_it_raises_is_raised(netns: Callable[[str], Netns]) -> None:
    visits, one, two = Visits(within=60), netns("one"), netns("two")

    def fails() -> None:
        raise KeyError("inside")

    for each in (one, two, one):
        assert visits.call(each.path, where) == NamespaceId.of(each.path)
    with pytest.raises(KeyError, match="inside"):
        visits.call(one.path, fails)
    with pytest.raises(FileNotFoundError):
        visits.call(one.path.with_name("none"), where)
    assert visits.call(two.path, where) == NamespaceId.of(two.path)


def test_no_thread_stays_inside(netns: Callable[[str], Netns]) -> None:
    visits, place = Visits(within=60), netns("left")
    visits.call(place.path, where)
    assert [thread.call(where) for thread in visits._idle] == [NamespaceId.of(HOME)]


def test_a_namespace_that_does_not_answer_holds_others_up_once(netns: Callable[[str], Netns]) -> None:
    visits, stuck, other = Visits(within=0.1), netns("stuck"), netns("other")
    released = threading.Event()
    with pytest.raises(TimeoutError, match="no answer within"):
        visits.call(stuck.path, lambda: released.wait(60))
    patient = Visits(within=60)
    patient._unended = visits._unended
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="has not ended"):
        patient.call(stuck.path, lambda: released.wait(60))
    assert time.monotonic() - started < 30
    assert patient.call(other.path, where) == NamespaceId.of(other.path)
    released.set()
    eventually(lambda: all(each.done() for each in visits._unended.values()))
    assert patient.call(stuck.path, where) == NamespaceId.of(stuck.path)
