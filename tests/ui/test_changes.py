"""What is allowed or deleted on the page can be undone, and each says before what it does."""

from pathlib import Path

from tests.testlib.fakes.cell import FakeCell, serving
from tests.ui.conftest import Visitor, served_page

ALLOW = {"from": "acme/shop/web", "to": "acme/shop/api", "ports": ["tcp/8080", "udp/53"], "note": "until the move"}


def names(visitor: Visitor) -> list[str]:
    return [each["name"] for each in visitor("GET", "/v1/policies").json]


def test_what_is_allowed_is_what_was_shown_and_is_gone_when_undone(visitor: Visitor) -> None:
    shown = visitor("POST", "/v1/changes/preview", ALLOW).json
    assert [each["ports"] for each in shown["opens"]] == [["tcp/8080", "udp/53"]]
    assert names(visitor) == []
    made = visitor("POST", "/v1/changes", ALLOW).json
    assert made["diff"] == shown
    assert names(visitor) == [made["name"]]
    (policy,) = visitor("GET", "/v1/policies").json
    assert (policy["tcp"], policy["udp"], policy["note"]) == (["8080"], ["53"], "until the move")
    back = visitor("POST", f"/v1/changes/{made['number']}/preview", {}).json
    assert [each["ports"] for each in back["closes"]] == [["tcp/8080", "udp/53"]]
    assert visitor("POST", f"/v1/changes/{made['number']}/undo", {}).status == 200
    assert names(visitor) == []


def test_a_policy_that_was_deleted_comes_back_with_its_earlier_text(visitor: Visitor) -> None:
    name = visitor("POST", "/v1/changes", ALLOW).json["name"]
    (before,) = visitor("GET", "/v1/policies").json
    gone = visitor("POST", "/v1/changes", {"delete": name}).json
    assert names(visitor) == []
    assert visitor("POST", f"/v1/changes/{gone['number']}/undo", {}).status == 200
    assert visitor("GET", "/v1/policies").json == [before]


def test_an_undoing_can_be_undone_and_nothing_is_undone_twice(visitor: Visitor) -> None:
    made = visitor("POST", "/v1/changes", ALLOW).json
    undone = visitor("POST", f"/v1/changes/{made['number']}/undo", {}).json
    assert visitor("POST", f"/v1/changes/{made['number']}/undo", {}).status == 409
    assert visitor("POST", f"/v1/changes/{undone['number']}/undo", {}).status == 200
    assert names(visitor) == [made["name"]]
    assert [(each["kind"], each["undone"]) for each in visitor("GET", "/v1/changes").json] == [
        ("undo", False), ("undo", True), ("allow", True),
    ]  # fmt: skip


def test_what_is_allowed_already_is_no_change_and_nothing_undoes_it(visitor: Visitor) -> None:
    name = visitor("POST", "/v1/changes", ALLOW).json["name"]
    assert visitor("POST", "/v1/changes", ALLOW).status == 409
    assert [each["name"] for each in visitor("GET", "/v1/changes").json] == [name]


def test_what_another_has_made_of_a_policy_since_is_not_undone(visitor: Visitor) -> None:
    made = visitor("POST", "/v1/changes", ALLOW).json
    theirs = visitor("POST", "/v1/changes", {**ALLOW, "note": "theirs"}).json
    for what in ("preview", "undo"):
        refused = visitor("POST", f"/v1/changes/{made['number']}/{what}", {})
        assert (refused.status, refused.json["error"]["what"]) == (
            409, f"{made['name']} was changed since then, not by this change",
        )  # fmt: skip
    assert visitor("GET", "/v1/policies").json[0]["note"] == "theirs"
    assert visitor("POST", f"/v1/changes/{theirs['number']}/undo", {}).status == 200
    assert visitor("GET", "/v1/policies").json[0]["note"] == ALLOW["note"]
    gone = visitor("POST", "/v1/changes", {"delete": made["name"]}).json
    assert "deleted" in visitor("POST", f"/v1/changes/{made['number']}/undo", {}).json["error"]["what"]
    visitor("POST", "/v1/changes", {**ALLOW, "note": "anew"})
    assert visitor("POST", f"/v1/changes/{gone['number']}/undo", {}).status == 409
    assert visitor("GET", "/v1/policies").json[0]["note"] == "anew"


def test_what_is_wrong_with_a_change_is_said_in_the_agents_words_and_nothing_is_remembered(visitor: Visitor) -> None:
    wrong = visitor("POST", "/v1/changes", {**ALLOW, "ports": ["tcp/99999"]})
    assert wrong.status == 400
    assert "99999" in wrong.json["error"]["what"]
    assert visitor("POST", "/v1/changes", {"delete": "nothing-of-it"}).status == 400
    assert visitor("POST", "/v1/changes", {}).status == 400
    assert visitor("POST", "/v1/changes/7/undo", {}).status == 404
    assert visitor("GET", "/v1/changes").json == []


def test_an_agent_that_is_lost_is_said_and_one_that_is_back_is_asked_again(cell: FakeCell, tmp_path: Path) -> None:
    socket = tmp_path / "agent.sock"
    with served_page(socket, users=frozenset({0}), may_change=True) as served:
        visitor = Visitor(served)
        visitor.enter()
        lost = visitor("GET", "/v1/status")
        assert (lost.status, lost.json["error"]["kind"]) == (503, "Unavailable")
        assert visitor("GET", "/v1/events").status == 503
        with serving(cell, socket):
            assert visitor("GET", "/v1/status").status == 200
