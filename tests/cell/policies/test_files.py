"""Policy files as editors treat them: a bad one changes nothing and is reported by line, and no way to save one cuts a call."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually

GOOD = """policies:
- name: web-to-api
  from: acme/shop/web
  to: acme/shop/api
  tcp: [8080, 9000]
"""
BAD = GOOD.replace("tcp:", "tpc:")


@pytest.fixture
def web_and_api(cell: CellUnderTest) -> tuple[Instance, Instance]:
    """A policy file allows web to reach api on 8080 and 9000."""
    cell.policy_file("shop.yaml", GOOD)
    return cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api", port=[8080, 8081], server=True)


def problem(cell: CellUnderTest) -> str:
    """What `cellnet status` says once an agent has found a file bad."""
    eventually(lambda: "bad file" in cell.cellnet("status", code=None).out)
    return cell.cellnet("status", code=1).out


def test_a_bad_file_changes_nothing_and_is_reported_with_line_and_caret(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance]
) -> None:
    web, api = web_and_api
    client, server = pair(web, api, 9000)
    path = cell.policy_file("shop.yaml", BAD, sync=False)
    told = [f"{path}:5:3: ", "tpc", "  tpc: [8080, 9000]", "  ^", "did you mean 'tcp'"]
    said = problem(cell)
    validated = cell.cellnet("policy", "validate", str(path), code=1).err
    logged = "\n".join(json.loads(line)["what"] for line in cell.log.splitlines() if "policy_file_bad" in line)
    for words in told:
        assert words in said
        assert words in validated
        assert words in logged
    assert "UTC stays in force (1 policy)" in said
    lines = said.splitlines()
    number = next(number for number, line in enumerate(lines) if "tpc: [" in line)
    assert lines[number].index("tpc") == lines[number + 1].index("^")
    assert cell.cellnet("sync", code=1).err.startswith("error: not all is enforced")
    assert is_alive(client, server)
    assert (web.connect(api, 8080), web.connect(api, 8081)) == (Connected, Refused)
    assert len(cell.cellnet("policy", "list").out.splitlines()) == 2


def test_a_bad_file_changes_nothing_over_a_restart_of_the_agent(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance]
) -> None:
    web, api = web_and_api
    client, server = pair(web, api, 9000)
    cell.policy_file("shop.yaml", BAD, sync=False)
    problem(cell)
    cell.kill("agent")
    cell.start(well=False)
    assert "did you mean 'tcp'" in problem(cell)
    assert is_alive(client, server)
    assert (web.connect(api, 8080), web.connect(api, 8081)) == (Connected, Refused)


def test_a_file_that_goes_bad_while_no_agent_runs_changes_nothing(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance]
) -> None:
    web, api = web_and_api
    client, server = pair(web, api, 9000)
    cell.stop()
    cell.policy_file("shop.yaml", BAD, sync=False)
    logged = len(cell.log)
    cell.start(well=False)
    assert "did you mean 'tcp'" in problem(cell)
    assert "shop.yaml:5:3" in cell.log[logged:]
    assert is_alive(client, server)
    assert web.connect(api, 8080) is Connected


def test_mending_a_bad_file_brings_its_change_and_clears_the_problem(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance]
) -> None:
    web, api = web_and_api
    cell.policy_file("shop.yaml", BAD.replace("8080", "8081"), sync=False)
    problem(cell)
    cell.policy_file("shop.yaml", GOOD.replace("8080", "8081"))
    assert cell.cellnet("status").out.startswith("all is well")
    assert (web.connect(api, 8080), web.connect(api, 8081)) == (Refused, Connected)


def test_removing_a_bad_file_ends_what_its_last_good_version_allowed(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance]
) -> None:
    web, api = web_and_api
    cell.policy_file("shop.yaml", BAD, sync=False)
    problem(cell)
    cell.remove_policy_file("shop.yaml")
    assert cell.cellnet("status").out.startswith("all is well")
    assert web.connect(api, 8080) is Refused
    cell.kill("agent")
    cell.start()
    assert web.connect(api, 8080) is Refused


def test_a_new_file_that_is_bad_allows_nothing_and_stops_no_other(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance]
) -> None:
    web, api = web_and_api
    cell.policy_file("a-bad.yaml", GOOD.replace("8080, 9000", "8081, 99999"), sync=False)
    assert "a-bad.yaml:5:" in problem(cell)
    assert (web.connect(api, 8080), web.connect(api, 8081)) == (Connected, Refused)
    cell.policy_file("other.yaml", GOOD.replace("8080, 9000", "8081").replace("web-to-api", "other"), sync=False)
    eventually(lambda: web.connect(api, 8081) is Connected)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("", ":1:1"),
        ("policies:\n- from: acme/shop/web\n  to: acme/shop/api\n  tcp: on\n", ":4:8"),
        ("policies:\n- from: acme/shop/web\n  to: acme/shop/api\n  tcp: 22:22\n", ":4:8"),
        ("policies:\n- from: acme/shop/web\n  to: acme/shop/api\n  tcp: 9010-9000\n", ":4:8"),
        ("policies:\n- from: acme/shop/web\n  to: acme/shop/api\n  tcp: 8080\n  tcp: 8081\n", ":5:3"),
        ("policies:\n- from: acme/shop/Web\n  to: acme/shop/api\n  tcp: 8080\n", ":2:9"),
        ("policies:\n- {from: acme/shop/web, to: acme/shop/api, tcp: 8080\n", ":2:3"),
        ("policies:\n\t- from: acme/shop/web\n", ":2:1"),
    ],
    ids=["empty", "on", "sexagesimal", "reversed", "duplicate", "name", "unclosed", "tab"],
)
def test_validate_names_the_place_of_each_mistake(cell: CellUnderTest, tmp_path: Path, content: str, place: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(content)
    assert f"{path}{place}: " in cell.cellnet("policy", "validate", str(path), code=1).err
    path.write_text(GOOD)
    assert cell.cellnet("policy", "validate", str(path)).out == f"{path}: 1 policy\n"


def by_cp(path: Path, new: Path) -> None:
    shutil.copyfile(new, path)


def by_mv(path: Path, new: Path) -> None:
    shutil.move(new, path)


def by_writing_in_place(path: Path, new: Path) -> None:
    path.write_text(new.read_text())


def by_writing_slowly(path: Path, new: Path) -> None:
    with path.open("w") as file:
        for line in new.read_text().splitlines(keepends=True):
            file.write(line)
            file.flush()


def by_overwriting_without_truncation(path: Path, new: Path) -> None:
    with path.open("r+") as file:
        file.write(new.read_text())
        file.truncate()


def by_renaming_away_and_creating(path: Path, new: Path) -> None:
    """As vim does with `backupcopy=no`."""
    path.rename(f"{path}~")
    path.write_text(new.read_text())
    Path(f"{path}~").unlink()


def by_unlinking_and_creating(path: Path, new: Path) -> None:
    path.unlink()
    path.write_text(new.read_text())


def by_a_link(path: Path, new: Path) -> None:
    """As deployments do: the name changes its target."""
    kept = path.parent / f".{new.name}.{os.getpid()}"
    shutil.copyfile(new, kept)
    (path.parent / ".link").symlink_to(kept.name)
    (path.parent / ".link").rename(path)


WAYS = (
    by_cp, by_mv, by_writing_in_place, by_writing_slowly, by_overwriting_without_truncation, by_renaming_away_and_creating,
    by_unlinking_and_creating, by_a_link,
)  # fmt: skip


@pytest.mark.parametrize("save", WAYS, ids=lambda each: each.__name__)
def test_no_way_of_saving_cuts_a_connection_that_stays_allowed(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance], tmp_path: Path, save: Callable[[Path, Path], None]
) -> None:
    """A comment is saved ten times, then a change of another port; the live connection sees none of it."""
    web, api = web_and_api
    client, server = pair(web, api, 9000)
    path, new = cell.lab.policies / "shop.yaml", tmp_path / "new"
    for number in range(10):
        new.write_text(f"{GOOD}# {number}\n")
        save(path, new)
        assert is_alive(client, server)
    new.write_text(GOOD.replace("8080", "8081"))
    save(path, new)
    cell.sync()
    assert is_alive(client, server)
    assert (web.connect(api, 8080), web.connect(api, 8081)) == (Refused, Connected)


def test_sed_in_place_cuts_nothing(cell: CellUnderTest, web_and_api: tuple[Instance, Instance]) -> None:
    web, api = web_and_api
    client, server = pair(web, api, 9000)
    path = cell.lab.policies / "shop.yaml"
    for old, new in (("8080", "8081"), ("8081", "8080"), ("8080", "8081")):
        cell.host.run("sed", "-i", f"s/{old}/{new}/", str(path))
        cell.sync()
        assert is_alive(client, server)
    assert (web.connect(api, 8080), web.connect(api, 8081)) == (Refused, Connected)


def test_a_file_that_others_may_write_is_refused_and_reported(
    cell: CellUnderTest, web_and_api: tuple[Instance, Instance]
) -> None:
    web, api = web_and_api
    path = cell.lab.policies / "shop.yaml"
    path.write_text(GOOD.replace("8080", "8081"))
    path.chmod(0o666)
    said = problem(cell)
    assert str(path) in said
    assert "chmod" in said
    path.chmod(0o644)
    cell.sync()
    assert cell.status().flag("ok")
    assert web.connect(api, 8081) is Connected


def test_hidden_files_and_backups_are_not_read(cell: CellUnderTest) -> None:
    for name in (".hidden.yaml", "shop.yaml~"):
        (cell.lab.policies / name).write_text("neither policy nor YAML: [")
    cell.sync()
    assert cell.cellnet("status").out.startswith("all is well")
    assert cell.status().at("policies").text("files") == "0"


def test_a_file_that_is_not_read_is_a_line_in_the_status(cell: CellUnderTest) -> None:
    (cell.lab.policies / "shop.yml").write_text(GOOD)
    eventually(lambda: not cell.status().flag("ok"))
    said = cell.cellnet("status", code=1).out
    assert "shop.yml: is not read" in said
    assert "rename it to shop.yaml" in said
    assert cell.status().at("policies").text("files") == "0"
    assert cell.status().at("policies").texts("bad_files") == ()
    (cell.lab.policies / "shop.yml").rename(cell.lab.policies / "shop.yaml")
    cell.sync()
    assert cell.wait_well().at("policies").text("files") == "1"
