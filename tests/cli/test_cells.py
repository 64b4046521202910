"""`cellnet cell`, `ca publish` and `--store-credentials` against an agent on memory."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cli.main import run
from agent.model.credentials import StoreCredentials
from tests.testlib.fakes.cell import FakeCell, serving

SECRET = "correct-horse"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[FakeCell]:
    made = FakeCell()
    with serving(made, tmp_path / "run/cellnet/agent.sock"):
        yield made


@pytest.fixture
def cellnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["--root", str(tmp_path), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def secret_file(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


@pytest.mark.usefixtures("cell")
def test_cells_are_a_tidy_table(cellnet: Cli) -> None:
    assert cellnet("cell", "list")[1] == (
        "NAME  UNDERLAY   SUBNET         ALIVE SINCE          VERSION  MTLS\n"
        "one   192.0.2.3  10.255.3.0/24  2030-01-02 03:04:05  0.1.0    strict  this cell\n"
        "two   192.0.2.3  10.255.3.0/24  -                    0.1.0    none\n"
    )
    assert [each["name"] for each in json.loads(cellnet("cell", "list", "--json")[1])] == ["one", "two"]


def test_a_cell_is_removed_by_its_name(cellnet: Cli, cell: FakeCell) -> None:
    assert cellnet("cell", "remove", "two") == (0, "removed two\n", "")
    assert [each.record.name for each in cell.listed] == ["one"]
    assert cellnet("cell", "remove", "tow") == (
        1, "", "error: there is no cell 'tow' in the store; hint: did you mean 'two'?\n"
    )  # fmt: skip


def test_roots_are_published_from_a_file_or_the_cells_own(cellnet: Cli, cell: FakeCell, tmp_path: Path) -> None:
    (tmp_path / "root.crt").write_text("PEM")
    code, out, _ = cellnet("ca", "publish")
    assert (code, out.splitlines()[1]) == (0, "  CN=root, until 2031-01-02, sha256 abababababababab…")
    cellnet("ca", "publish", str(tmp_path / "root.crt"), "--add")
    assert cell.published == [(None, False), ("PEM", True)]


def test_a_key_is_never_sent(cellnet: Cli, cell: FakeCell, tmp_path: Path) -> None:
    (tmp_path / "root.key").write_text("-----BEGIN PRIVATE KEY-----\nabcd\n-----END PRIVATE KEY-----\n")
    code, _, err = cellnet("ca", "publish", str(tmp_path / "root.key"))
    assert (code, cell.published) == (2, [])
    assert "holds a private key" in err


def test_every_change_of_the_store_takes_credentials(cellnet: Cli, cell: FakeCell, tmp_path: Path) -> None:
    who = ("--store-credentials", secret_file(tmp_path / "who.yaml", "username: operator\npassword_file: password\n"))
    secret_file(tmp_path / "password", f"{SECRET}\n")
    (tmp_path / "policies.yaml").write_text("policies: []\n")
    for command in (
        ("policy", "allow", "acme/shop/web", "acme/shop/api", "tcp/80"),
        ("policy", "apply", "-f", str(tmp_path / "policies.yaml")),
        ("policy", "delete", "web-to-api"),
        ("policy", "accept-loss"),
        ("ca", "publish"),
        ("cell", "remove", "two"),
    ):
        code, out, err = cellnet(*command, *who)
        assert (code, err) == (0, "")
        assert SECRET not in out
    assert cell.operators == [StoreCredentials(username="operator", password=SECRET)] * 6


def test_a_certificate_may_be_readable_for_all_and_its_key_for_root_alone(cellnet: Cli, cell: FakeCell, tmp_path: Path) -> None:
    who = ("--store-credentials", secret_file(tmp_path / "who.yaml", f"cert: op.crt\nkey: {tmp_path}/op.key\n"))
    (tmp_path / "op.crt").write_text("CERTIFICATE")
    secret_file(tmp_path / "op.key", SECRET)
    assert cellnet("ca", "publish", *who)[0] == 0
    assert cell.operators == [StoreCredentials(cert="CERTIFICATE", key=SECRET)]
    (tmp_path / "op.key").chmod(0o640)
    code, _, err = cellnet("ca", "publish", *who)
    assert (code, len(cell.operators)) == (2, 1)
    assert f"others than root may read {tmp_path}/op.key" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a mapping"),
        ("- username", "is not a mapping"),
        ("username: operator\npassword: 1234\n", "put quotes around a password"),
        ("username: operator\n", "has no complete credentials"),
        (f"username: operator\npasword: {SECRET}\n", "has no complete credentials"),
        (f"username: operator\npassword: {SECRET}\nkey: x\n", "has no complete credentials"),
        (f"username: operator\npassword: '{SECRET}\n", "is not YAML"),
        (f"username: operator\npassword: {SECRET}: x\n", ":2 is not YAML"),
    ],
)
def test_mistakes_in_the_file_are_reported_without_quoting_it(
    cellnet: Cli, cell: FakeCell, tmp_path: Path, text: str, words: str
) -> None:
    who = ("--store-credentials", secret_file(tmp_path / "who.yaml", text))
    code, out, err = cellnet("ca", "publish", *who)
    assert (code, out, cell.operators) == (2, "", [])
    assert words in err
    assert SECRET not in err


@pytest.mark.parametrize("wrong", ["group", "others", "owner", "folder", "missing"])
def test_a_file_that_others_may_read_is_not_taken(cellnet: Cli, cell: FakeCell, tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "who.yaml"
    secret_file(path, f"username: operator\npassword: {SECRET}\n")
    if wrong == "owner":
        os.chown(path, 1, 1)
    elif wrong in ("folder", "missing"):
        path.unlink()
        if wrong == "folder":
            path.mkdir()
    else:
        path.chmod({"group": 0o640, "others": 0o604}[wrong])
    code, _, err = cellnet("ca", "publish", "--store-credentials", str(path))
    assert code in (1, 2)
    assert err.startswith("error: ")
    assert cell.operators == []
