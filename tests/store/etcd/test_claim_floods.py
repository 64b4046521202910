"""Cells that claim names without end: what they cost the others is bounded, and they are named."""

import time
from collections.abc import Callable

import pytest

from agent.store.etcd.client import Value
from agent.store.etcd.names import records as name_records
from agent.store.etcd.names.claim_quotas import ClaimQuotas
from agent.store.etcd.write_rates import FEW, WINDOW
from tests.testlib.stores.name_view import BLOG, CLAIM, HOST, KEYS, SHOP, NameView, Values


def test_of_a_cells_claims_so_many_count_and_it_is_named() -> None:
    view = NameView(quotas=ClaimQuotas(each=100, all_together=150))
    view.claim(HOST)
    for number in range(120):
        view.claim(f"x{number}.apps.internal", BLOG, cell="cell-9")
    assert len(view.found.routes) == 101
    assert list(view.found.floods()) == ["cell cell-9 has claimed 120 names, as the claims say: 20 of them are left out"]
    assert not view.found.takes_more_of("cell-9")
    assert view.found.takes_more_of("cell-1")
    for number in range(120):
        view.claim(f"y{number}.apps.internal", BLOG, cell=f"cell-{number + 100}")
    assert len(view.found.routes) == 150, "by whom a claim is only it says itself"
    assert not view.found.takes_more_of("cell-1")
    assert view.found.routes[HOST].space == SHOP
    for number in range(120):
        view.delete(KEYS.claimed_route(f"x{number}.apps.internal"))
    view.wait()
    assert len(view.found.routes) == 121, "what waited has its turn"
    assert list(view.found.floods()) == []


def test_a_cell_that_goes_on_writing_claims_is_named_until_it_stops_and_its_writes_may_wait() -> None:
    view = NameView()
    assert not view.found.may_wait(CLAIM)
    for _ in range(2 * FEW + 1):
        view.put(CLAIM, name_records.encode_route_claim(BLOG, cell="cell-9"))
    (flood,) = view.found.floods()
    assert flood == f"cell cell-9 floods etcd: {2 * FEW + 1} changes of claims in its name in {WINDOW:g} seconds"
    assert view.found.may_wait(CLAIM)
    assert not view.found.may_wait(KEYS.policy("x"))
    view.now += 2 * WINDOW
    view.claim("a.apps.internal")
    assert list(view.found.floods()) == []
    assert not view.found.may_wait(CLAIM)


def test_one_change_among_thousands_of_claims_judges_the_names_that_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    values: Values = {}
    for number in range(20_000):
        data = name_records.encode_route_claim(SHOP if number % 2 else BLOG, cell=f"cell-{number % 1000}")
        values[KEYS.claimed_route(f"a.x{number}.apps.internal")] = Value(data, number + 1, 0, number + 1)
    begun = time.perf_counter()
    view = NameView(values=values)
    print(f"20,000 claims: {time.perf_counter() - begun:.2f} s")
    judged, decide = list[str](), view.found.route_claims._decide

    def noting(name: str) -> None:
        judged.append(name)
        decide(name)

    monkeypatch.setattr(view.found.route_claims, "_decide", noting)
    changes: dict[str, Callable[[], bool]] = {
        "a new claim": lambda: view.claim("new.apps.internal"),
        "a claim above one of another space": lambda: view.claim("x7.apps.internal", BLOG),
        "a claim that goes": lambda: view.delete(KEYS.claimed_route("a.x8.apps.internal")),
    }
    for what, change in changes.items():
        begun = time.perf_counter()
        change()
        print(f"  {what}: {(time.perf_counter() - begun) * 1000:.2f} ms")
    assert judged == ["new.apps.internal", "x7.apps.internal", "a.x8.apps.internal"]
    assert len(view.found.routes) == 20_001


def test_of_claims_that_come_together_those_count_that_were_made_first() -> None:
    values: Values = {}
    for number in range(10):
        data = name_records.encode_route_claim(SHOP, cell="cell-1")
        values[KEYS.claimed_route(f"x{number}.apps.internal")] = Value(data, 100 - number, 0, 100 - number)
    view = NameView(values=values, quotas=ClaimQuotas(each=3))
    assert sorted(view.found.routes) == ["x7.apps.internal", "x8.apps.internal", "x9.apps.internal"]


def test_what_was_there_at_the_agents_start_is_no_flood() -> None:
    values: Values = {}
    for number in range(2 * FEW + 1):
        data = name_records.encode_route_claim(SHOP, cell="cell-1")
        values[KEYS.claimed_route(f"x{number}.apps.internal")] = Value(data, number + 1, 0, number + 1)
    view = NameView(values=values)
    assert not view.found.may_wait(CLAIM)
    assert list(view.found.floods()) == []
    assert len(view.found.routes) == 2 * FEW + 1
