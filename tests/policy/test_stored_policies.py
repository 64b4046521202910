"""The store's policies are parsed when their documents change, and only those that did: there may be 60,000."""

from pathlib import Path

import pytest

from agent.config.problems import InvalidSource
from agent.errors import Conflict
from agent.model.names import AppName
from agent.model.outside import Inside
from agent.model.policy import Policy
from agent.policy.in_force import StoredPolicies
from agent.policy.language import documents, language
from agent.policy.rights.resolve import MOST_RIGHTS
from agent.store.protocols import StoredPolicy
from tests.testlib.beds.policies import policies_in
from tests.testlib.fakes.store import MemoryStore

COUNT = 300


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was parsed."""
    names: list[str] = []
    parse = language.parse_stored

    def counted(name: str, text: str, *, inside: Inside) -> Policy:
        names.append(name)
        return parse(name, text, inside=inside)

    monkeypatch.setattr(language, "parse_stored", counted)
    return names


def stored(number: int, port: int = 80) -> StoredPolicy:
    made = language.allowed("acme/shop/web", f"acme/shop/api{number}", [f"tcp/{port}"], name=f"p{number:03}")
    return StoredPolicy(made.name, documents.document(made))


async def test_one_change_among_many_is_one_parse(parsed: list[str]) -> None:
    policies, documents = StoredPolicies(), tuple(map(stored, range(COUNT)))
    before = await policies.follow(documents)
    assert len(before) == len(parsed) == COUNT
    parsed.clear()
    assert await policies.follow(documents) is before
    for place in (0, 150, COUNT - 1):
        documents = (*documents[:place], stored(place, 443), *documents[place + 1 :])
        after = await policies.follow(documents)
        assert [each.name for each in after] == [each.name for each in documents]
        assert [str(each) for each in after[place].tcp] == ["443"]
        assert parsed == [f"p{place:03}"]
        parsed.clear()
    await policies.follow(documents[:7] + documents[8:])
    assert parsed == []
    two = (stored(1, 8080), *documents[1:-1], stored(2, 8080))
    await policies.follow(two)
    assert len(parsed) == 3  # both, and the one that was away; none of those between


async def test_an_unreadable_policy_is_a_problem_while_it_is_there_and_stops_no_other() -> None:
    policies, good = StoredPolicies(), tuple(map(stored, range(3)))
    bad = StoredPolicy("bad", "policies: [{from: nobody}]")
    assert len(await policies.follow((*good, bad))) == 3
    assert "policy 'bad' in the store" in policies.problems[0]
    assert len(await policies.follow((stored(0, 443), *good[1:], bad))) == 3
    assert len(policies.problems) == 1
    assert len(await policies.follow(good)) == 3
    assert policies.problems == ()


@pytest.mark.parametrize(
    "document",
    [
        '{"policies": [{"name": "a", "from": ["acme/shop/web"], "to": "acme/shop/api", "tcp": ["80", "80"]}]}',
        '{"policies": [{"name": "a", "from": ["acme/shop/web", "acme/shop/web"], "to": "acme/shop/api", "tcp": [80]}]}',
        '{"policies": [{"name": "a", "from": "acme/shop/web", "to": "acme/shop/b", "tcp": ["80-81", "81-90"], "udp": "any"}]}',
        '{"policies": [{"name": "a", "from": ["same-space"], "to": "acme/shop/*", "tcp": ["any"]}]}',
        "policies: [{name: a, from: [acme/shop/web], to: acme/shop/api, tcp: [80]}]",
    ],
)
def test_a_document_means_the_same_however_it_was_written(document: str) -> None:
    (slowly,) = language.parse_applied(document.encode(), source="policies")
    assert language.parse_stored("a", document) == slowly
    assert language.parse_stored("a", documents.document(slowly)) == slowly


@pytest.mark.parametrize(
    "document",
    [
        '{"policies": [{"name": "b", "from": ["acme/shop/web"], "to": "acme/shop/api", "tcp": ["80"]}]}',
        '{"policies": [{"name": "a", "from": [], "to": "acme/shop/api", "tcp": ["80"]}]}',
        '{"policies": [{"name": "a", "from": ["acme/shop/web"], "to": "acme/shop/api"}]}',
        '{"policies": [{"name": "a", "from": ["acme/shop/web"], "to": "acme/shop/api", "tcp": ["80"], "deny": true}]}',
        '{"policies": [{"name": "a", "from": ["acme/shop/web"], "to": "same-space", "tcp": ["80"]}]}',
        '{"policies": [{"name": "a", "from": ["acme/shop/web"], "to": "acme/shop/api", "tcp": ["70000"]}]}',
        '{"policies": []}', "[]", "", "{",
    ],
)  # fmt: skip
def test_a_document_that_is_wrong_is_refused_however_it_was_written(document: str) -> None:
    with pytest.raises(InvalidSource):
        language.parse_stored("a", document)


async def test_a_policy_of_a_file_is_not_deleted_from_the_store_and_the_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "policies.d").mkdir()
    (tmp_path / "policies.d/a.yaml").write_text("policies: [{name: one, from: a/b/c, to: a/b/d, tcp: 80}]\n")
    policies = policies_in(tmp_path, MemoryStore())
    with pytest.raises(Conflict, match=r"policy 'one' stands in .*/a\.yaml:1, not in the store"):
        await policies.delete("one", writer=None)
    assert not await policies.delete("two", writer=None)


async def test_a_policy_that_would_be_too_many_rights_is_a_line_in_status(tmp_path: Path) -> None:
    sources = [f"acme/shop/a{number}" for number in range(MOST_RIGHTS + 1)]
    (tmp_path / "policies.d").mkdir()
    text = f"policies: [{{name: crowd, from: [{', '.join(sources)}], to: acme/shop/api, tcp: 80}}]\n"
    (tmp_path / "policies.d/a.yaml").write_text(text)
    policies = policies_in(tmp_path, MemoryStore())
    resolve = await policies.resolver({AppName.parse(source): number for number, source in enumerate(sources, 1)})
    assert resolve(AppName.parse("acme/shop/api")) == frozenset()
    (problem,) = policies.problems()
    assert problem.what == "more than 4,096 rights to reach acme/shop/api: not in force for it are crowd"


@pytest.mark.usefixtures("every_form")
async def test_a_policy_that_would_be_too_much_of_the_outside_is_a_line_in_status(tmp_path: Path) -> None:
    ports = ", ".join(str(2 * number + 1) for number in range(MOST_RIGHTS + 1))
    crowd = f"{{name: crowd, from: a/b/web, to: {{cidr: 0.0.0.0/0}}, tcp: [{ports}]}}"
    rules = f"{crowd}, {{from: a/b/web, to: {{cidr: 192.0.2.7}}, tcp: 1}}"
    (tmp_path / "policies.d").mkdir()
    (tmp_path / "policies.d/a.yaml").write_text(f"policies: [{rules}]\n")
    policies = policies_in(tmp_path, MemoryStore())
    outside = await policies.outside()
    assert len(outside.rights(AppName("a", "b", "web")).egress) == 1
    (problem,) = policies.problems()
    assert problem.what == (
        "more than 4,096 rights or 65,536 networks and names of a/b/web to the outside: not in force for it are crowd"
    )
    assert policies.left_out() == (problem.what,)
