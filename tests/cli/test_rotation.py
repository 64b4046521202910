"""`cellnet ca rotate` against an agent on memory: what it asks for, what it says, and when it is over."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cli.cells.rotation import ORDER
from agent.cli.main import run
from agent.errors import Conflict, Unavailable
from agent.identity.rotation import Step
from agent.model.credentials import StoreCredentials
from tests.testlib.fakes.cell import FakeCell, serving
from tests.testlib.fakes.rotation_views import rotation_view

Cli = Callable[..., tuple[int, str, str]]
NONE, TRUST, SIGN, END, DONE = (
    rotation_view(None), rotation_view(Step.TRUST, "one", "two"), rotation_view(Step.SIGN, "two"),
    rotation_view(Step.END, "one"), rotation_view(Step.DONE),
)  # fmt: skip
COMES, GOES = "comes  sha256 1111111111111111…", "goes   sha256 0000000000000000…"
NOW = ("--wait", "0")


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[FakeCell]:
    made = FakeCell()
    with serving(made, tmp_path / "run/cellnet/agent.sock"):
        yield made


@pytest.fixture
def rotate(cell: FakeCell, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cellnet ca rotate`, from a folder with a root's certificate."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agent.cli.cells.rotation.POLL", 0.01)
    (tmp_path / "root.crt").write_text("PEM")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["--root", str(tmp_path), "ca", "rotate", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_it_goes_from_step_to_step_until_all_is_done(rotate: Cli, cell: FakeCell) -> None:
    cell.rotations = [NONE, TRUST, TRUST, SIGN, SIGN, END, DONE]
    assert rotate("root.crt") == (0, "\n".join((
        COMES, GOES, "step 1 of 3: all cells trust the root that comes", "step 2 of 3: all cells sign with it",
        "step 3 of 3: the roots that go are trusted no more",
        "done: all cells sign with sha256 1111111111111111…, and trust none that has gone\n",
    )), "")  # fmt: skip
    assert cell.rotated == [("PEM", (), False), *[(None, (), False)] * 5], "after the first time the store knows it"


def test_what_is_awaited_is_said_with_what_to_do_and_it_is_no_success(rotate: Cli, cell: FakeCell) -> None:
    cell.rotations = [NONE, rotation_view(Step.SIGN, "two", passed_over=("three",))]
    assert rotate("root.crt", *NOW, "--without", "three") == (1, "\n".join((
        COMES, GOES, "step 2 of 3: all cells sign with it", "  awaited: two: it is slow", "    hint: see there",
        "  passed over: three: it is slow", "    see there",
        "not done yet: run it again; 'cellnet ca rotate --status' shows where it is\n",
    )), "")  # fmt: skip
    assert cell.rotated == [("PEM", ("three",), False)]
    cell.rotations = [SIGN, DONE]
    assert rotate()[0] == 0, "on any cell, without the certificate"
    assert cell.rotated[-1] == (None, (), False)


@pytest.mark.parametrize(("until", "at", "code"), [
    ("trust", TRUST, 1), ("trust", SIGN, 0), ("sign", SIGN, 1), ("sign", END, 0),
])  # fmt: skip
def test_it_stops_where_it_is_asked_to(rotate: Cli, cell: FakeCell, until: str, at: object, code: int) -> None:
    cell.rotations = [NONE, at]  # type: ignore[list-item]
    found, out, _ = rotate("root.crt", *NOW, "--until", until)
    assert (found, "stopped as asked, before step" in out) == (code, code == 0)
    assert re.findall("^step ([123])", out, flags=re.MULTILINE) == ([] if code == 0 else [str(ORDER.index(until) + 1)])
    assert cell.rotated == [("PEM", (), True)], "the roots that go stay trusted"


def test_its_status_changes_nothing_and_is_one_while_there_is_something_to_do(rotate: Cli, cell: FakeCell) -> None:
    for at, code, told in ((NONE, 0, "no rotation of the root is under way"), (SIGN, 1, "step 2 of 3"), (DONE, 0, "step done")):
        cell.rotations = [at]
        found, out, _ = rotate("--status")
        assert (found, told in out) == (code, True)
    assert "  one signs with sha256 0000000000000000…, trusts sha256 0000000000000000…, sha256 1111" in _status_without(
        rotate, cell
    )
    assert cell.rotated == []


def _status_without(rotate: Cli, cell: FakeCell) -> str:
    cell.rotations = [NONE]
    return rotate("--status")[1]


def test_programs_get_the_last_answer_alone(rotate: Cli, cell: FakeCell) -> None:
    cell.rotations = [NONE, TRUST, SIGN]
    code, out, err = rotate("root.crt", "--wait", "0.2", "--json")
    assert (code, err, json.loads(out)["step"]) == (1, "", "sign")
    assert [each["cell"] for each in json.loads(rotate("--status", "--json")[1])["awaited"]] == ["two"]


def test_roots_that_stay_are_named_at_the_end(rotate: Cli, cell: FakeCell) -> None:
    cell.rotations = [SIGN, rotation_view(Step.DONE)]
    last = cell.rotations[-1]
    cell.rotations[-1] = type(last)(last.step, last.root, last.former, (), (), ("11" * 32, "22" * 32), ())
    assert "still trusted besides: sha256 2222222222222222…" in rotate()[1]


def test_without_the_roots_key_here_another_roots_certificate_must_be_given(rotate: Cli, cell: FakeCell) -> None:
    cell.rotations = [NONE]
    code, out, err = rotate()
    assert (code, out, cell.rotated) == (1, "", [])
    assert "no rotation of the root is under way, and " in err
    assert "has no root.key to make a new root beside; hint: have the root's owner make another" in err


def test_a_key_is_never_sent_and_an_operators_rights_are(rotate: Cli, cell: FakeCell, tmp_path: Path) -> None:
    (tmp_path / "root.key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nabcd\n-----END ENCRYPTED PRIVATE KEY-----\n")
    assert "holds a private key" in rotate("root.key")[2]
    assert cell.rotated == []
    who = tmp_path / "who.yaml"
    who.write_text("username: operator\npassword: secret\n")
    who.chmod(0o600)
    rotate("root.crt", *NOW, "--store-credentials", str(who))
    assert cell.operators == [StoreCredentials(username="operator", password="secret")]


def test_what_the_agent_refuses_is_the_commands_error(rotate: Cli, cell: FakeCell) -> None:
    cell.fails = Conflict("the root that was to come is no longer published", hint="give it")
    assert rotate("root.crt") == (1, "", "error: the root that was to come is no longer published; hint: give it\n")


def test_a_store_that_is_away_for_a_moment_is_told_once_and_asked_again(rotate: Cli, cell: FakeCell) -> None:
    cell.rotations = [NONE, END, DONE]
    cell.fail_once = [Unavailable("etcd does not answer", hint="wait")] * 3
    code, out, err = rotate("root.crt")
    assert (code, err, out.splitlines()[0]) == (0, "", "  asked again: etcd does not answer")
    assert out.count("asked again") == 1
    assert cell.rotated == [("PEM", (), False), (None, (), False)], "the root is given until the store knows it"


def test_one_that_stays_away_is_the_commands_error_after_the_wait(rotate: Cli, cell: FakeCell) -> None:
    cell.fails = Unavailable("etcd does not answer", hint="wait")
    error = "error: etcd does not answer; hint: wait\n"
    assert rotate("root.crt", "--wait", "0.2") == (1, "  asked again: etcd does not answer\n", error)
    assert rotate("root.crt", "--wait", "0.2", "--json") == (1, "", error)
    assert rotate("root.crt", *NOW) == (1, "", error)


def test_where_no_agent_answers_there_is_nothing_to_wait_for(rotate: Cli, tmp_path: Path) -> None:
    (tmp_path / "run/cellnet/agent.sock").unlink()
    code, out, err = rotate("root.crt")
    assert (code, out) == (1, "")
    assert "no agent answers" in err
