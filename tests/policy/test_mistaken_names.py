"""What is said of a name that nothing has: which one was probably meant."""

import pytest

from agent.model.names import AppName
from agent.model.policy import Pattern
from agent.policy.mistaken_names import notices

NAMED = frozenset(map(AppName.parse, ("acme/shop/front", "acme/shop/db", "acme/blog/front", "zeta/data/lake")))


def said(*patterns: str) -> list[str]:
    return list(notices(map(Pattern.parse, patterns), named=NAMED))


def test_nothing_is_said_of_what_is_there() -> None:
    assert said("acme/shop/front", "acme/shop/*", "acme/*/*", "zeta/data/lake") == []


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("acme/shop/frnt", "acme/shop/front"),
        ("acme/shpo/front", "acme/shop/front"),
        ("acm/shop/front", "acme/shop/front"),
        ("acme/shop/lake", None),
        ("acme/shpo/*", "acme/shop/*"),
        ("zeta/dat/*", "zeta/data/*"),
        ("acmee/*/*", "acme/*/*"),
        ("other/one/x", None),
    ],
)
def test_the_nearest_that_is_there_is_named(given: str, meant: str | None) -> None:
    question = "" if meant is None else f"; did you mean {meant}?"
    assert said(given) == [f"nothing of {given} runs here or is named{question}"]


def test_of_what_is_named_for_the_first_time_only_what_is_like_another_is_said() -> None:
    patterns = map(Pattern.parse, ("acme/shop/frnt", "acme/shop/lake", "other/one/x"))
    (only,) = notices(patterns, named=NAMED, is_new=True)
    assert only.endswith("did you mean acme/shop/front?")


def test_each_is_named_once() -> None:
    assert len(said("acme/shop/frnt", "acme/shop/frnt", "acme/shop/dbb")) == 2
