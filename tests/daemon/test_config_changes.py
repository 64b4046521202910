"""agent.yaml that no longer says what the agent runs by is reported."""

from pathlib import Path

from agent.config.load import load
from agent.daemon.config_changes import ConfigChanges
from agent.model.status import Problem


def test_a_changed_file_is_a_problem_until_its_settings_are_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("cell: one\n")
    part = ConfigChanges(load(path, root=None, hostname="host").file)
    assert list(part.problems()) == []
    path.write_text("cell: two\n")
    what = f"{path} has changed since the agent started"
    assert list(part.problems()) == [Problem("config", what, "restart the agent to take it up")]
    path.unlink()
    assert [each.what for each in part.problems()] == [f"{path} is gone"]
    path.symlink_to("nowhere")
    assert [each.what for each in part.problems()] == [f"cannot read {path}: No such file or directory"]
    path.unlink()
    path.write_text("cell: one\n")
    assert list(part.problems()) == []


def test_a_file_that_appears_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    part = ConfigChanges(load(path, root=None, hostname="host").file)
    path.write_text("{}")
    assert [each.what for each in part.problems()] == [f"{path} was not there when the agent started"]
