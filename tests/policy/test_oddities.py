"""What is asked about odd policies is worked on within bounds: a reader may ask, with four mebibytes of policies."""

from collections.abc import Callable

import pytest

from agent.errors import InvalidInput
from agent.model.names import AppName
from agent.policy import effect as effect_module
from agent.policy import oddities as module
from agent.policy.effect import effect
from agent.policy.language.language import parse
from agent.policy.oddities import oddities
from agent.policy.rights import edges as edges_module

KNOWN = frozenset(AppName("acme", "shop", f"app-{number}") for number in range(50))


class Counted:
    """Calls of a function."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        self._does: Callable[..., object] = getattr(module, name)
        monkeypatch.setattr(module, name, self)

    def __call__(self, *given: object, **named: object) -> object:
        self.times += 1
        return self._does(*given, **named)


def test_policies_are_compared_until_it_is_enough_and_those_of_many_sources_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPARED", 1_000)
    sources = ", ".join(f"acme/shop/{number}" for number in range(40))
    rules = "".join(f"- {{from: [{sources}, acme/shop/x{number}], to: acme/shop/api, tcp: 80}}\n" for number in range(30))
    many, covers = parse(f"policies:\n{rules}".encode(), source="f"), Counted("covers", monkeypatch)
    assert not list(oddities(many, many, known=None))
    assert 0 < covers.times <= 1_000 * 8 // 41**2 + 1
    few = parse(b"policies: [{from: acme/*/*, to: acme/shop/b, tcp: 1}, {from: acme/a/c, to: acme/shop/b, tcp: 1}]", source="f")
    assert [each.origin.column for each in oddities(few, few, known=None)] == [55]


def test_names_that_no_app_has_are_judged_until_it_is_enough_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JUDGED", 50 * 8)
    rules = "".join(
        f"- {{from: acme/shop/apq-{each}, to: acme/shop/app-1, tcp: {port}}}\n" for each in range(20) for port in (1, 2)
    )
    policies, notices = parse(f"policies:\n{rules}".encode(), source="f"), Counted("notices", monkeypatch)
    assert len([each for each in oddities(policies, policies, known=KNOWN) if "nothing of" in each.what]) == 2 * 8
    assert notices.times == 8


def test_pairs_beyond_what_memory_holds_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effect_module, "MOST", 10)
    monkeypatch.setattr(effect_module, "COUNTED", 100)
    policies = parse(b"policies: [{from: acme/shop/*, to: acme/shop/*, tcp: 80}]", source="f")
    found = effect((), policies, known=KNOWN)
    assert (len(found.opens), found.more) == (10, 90)


def test_stars_for_more_pairs_than_can_be_looked_at_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policies = parse(b"policies: [{from: acme/shop/*, to: acme/shop/*, tcp: 80}]", source="f")
    monkeypatch.setattr(edges_module, "MOST_LOOKED_AT", 50 * 50)
    assert len(effect((), policies, known=KNOWN).opens) == 50 * 50
    monkeypatch.setattr(edges_module, "MOST_LOOKED_AT", 50 * 50 - 1)
    with pytest.raises(InvalidInput, match="more than 2,499 pairs"):
        effect((), policies, known=KNOWN)
