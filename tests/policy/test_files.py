"""What is believed of the policy directory and when, with the clock in the test's hand and real files."""

import os
from pathlib import Path

import pytest

from agent.policy.directory.files import SETTLE, VANISH
from tests.testlib.policy_directory import BAD, GOOD, PolicyDirectory


def test_the_first_scan_believes_what_it_sees(place: PolicyDirectory) -> None:
    place.write("b.yaml", GOOD % "two")
    place.write("a.yaml", GOOD % "one")
    assert place.files.scan(0.0)
    assert (place.names(), place.messages(), place.files.waiting()) == (["one", "two"], [], ())


def test_a_scan_that_finds_nothing_new_changes_nothing_and_keeps_the_objects(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    before = place.files.policies()
    assert not place.files.scan(1.0)
    assert not place.files.scan(2.0, reread=True)
    assert place.files.policies() is before


def test_a_missing_and_an_empty_directory_allow_nothing_and_are_no_problem(place: PolicyDirectory) -> None:
    assert not place.files.scan(0.0)
    place.directory.rmdir()
    assert not place.files.scan(1.0)
    assert (place.names(), place.messages()) == ([], [])


@pytest.mark.parametrize("name", [".hidden.yaml", "a.yaml~", ".a.yaml.swp"])
def test_hidden_files_and_editors_backups_are_not_policy_files(place: PolicyDirectory, name: str) -> None:
    place.write(name, GOOD % "one")
    place.files.scan(0.0)
    assert (place.names(), place.messages()) == ([], [])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.yml", "a.yaml"),
        ("a.json", "a.yaml"),
        ("a.YAML", "a.yaml"),
        ("a.yaml.new", "a.yaml.new.yaml"),
        ("README", "README.yaml"),
        ("\x1b[31m.yml", "NAME.yaml"),
    ],
)
def test_what_is_not_read_is_a_problem_with_the_name_that_would_be(place: PolicyDirectory, name: str, wanted: str) -> None:
    path = place.write(name, GOOD % "one")
    place.files.scan(0.0)
    assert place.names() == []
    assert place.messages() == [f"{name}: is not read: the name of a policy file ends in .yaml"]
    assert place.files.problems()[0].hint == f"rename it to {wanted}, or move it away"
    assert place.files.unenforced() == ()
    path.rename(path.with_name("b.yaml"))
    place.files.scan(1.0, closed={"b.yaml"})
    assert (place.names(), place.messages()) == (["one"], [])


def test_a_subfolder_is_not_read_and_a_problem(place: PolicyDirectory) -> None:
    (place.directory / "team").mkdir()
    (place.directory / "team" / "a.yaml").write_text(GOOD % "one")
    place.files.scan(0.0)
    assert place.messages() == ["team: is not read: policy files stand in the directory itself"]


def test_a_name_that_is_there_for_a_moment_only_is_no_problem(place: PolicyDirectory) -> None:
    place.files.scan(0.0)
    path = place.write("a.yaml.tmp", GOOD % "one")
    assert not place.files.scan(1.0)
    assert place.files.next_wakeup() == 1.0 + SETTLE
    path.rename(place.directory / "a.yaml")
    assert place.files.scan(1.1, closed={"a.yaml"})
    assert (place.names(), place.messages(), place.files.next_wakeup()) == (["one"], [], None)
    place.write("b.yaml.tmp", GOOD % "two")
    place.files.scan(2.0)
    assert place.files.scan(2.0 + SETTLE)
    assert [each.partition(":")[0] for each in place.messages()] == ["b.yaml.tmp"]
    assert place.files.next_wakeup() is None


def test_a_file_is_taken_as_soon_as_its_writer_has_closed_it(place: PolicyDirectory) -> None:
    place.files.scan(0.0)
    place.write("a.yaml", GOOD % "one")
    assert place.files.scan(1.0, closed={"a.yaml"})
    assert place.names() == ["one"]


def test_a_change_without_a_close_event_is_taken_when_it_has_settled(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.write("a.yaml", GOOD % "half")
    assert not place.files.scan(1.0)
    assert place.files.waiting() == ("a.yaml",)
    place.write("a.yaml", GOOD % "whole")
    assert not place.files.scan(1.0 + SETTLE)
    assert place.files.next_wakeup() == 1.0 + 2 * SETTLE
    assert place.files.scan(1.0 + 2 * SETTLE)
    assert (place.names(), place.files.waiting(), place.files.next_wakeup()) == (["whole"], (), None)


def test_an_empty_file_is_a_mistake_only_if_it_stays_empty(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.write("a.yaml", "")
    assert not place.files.scan(1.0, closed={"a.yaml"})
    assert place.files.scan(1.0 + SETTLE)
    assert (place.names(), place.messages()) == (["one"], ["a.yaml: the file is empty"])


def test_what_was_touched_while_it_was_read_is_not_believed(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.write("a.yaml", "policies: []\n")
    assert not place.files.scan(1.0, closed={"a.yaml"}, unsettled=lambda: {"a.yaml"})
    assert place.names() == ["one"]
    place.write("a.yaml", GOOD % "two")
    assert place.files.scan(1.0, closed={"a.yaml"})
    assert place.names() == ["two"]


def test_a_vanished_file_is_believed_gone_after_fifty_milliseconds_and_not_before(place: PolicyDirectory) -> None:
    path = place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    path.unlink()
    assert not place.files.scan(10.0)
    assert place.files.next_wakeup() == pytest.approx(10.0 + VANISH)
    assert not place.files.scan(10.0 + VANISH - 0.001)
    assert place.files.scan(10.0 + VANISH)
    assert (place.names(), place.files.next_wakeup(), VANISH) == ([], None, 0.05)


def test_a_file_that_comes_back_within_fifty_milliseconds_was_never_gone(place: PolicyDirectory) -> None:
    path = place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    path.rename(path.with_suffix(".yaml~"))
    assert not place.files.scan(10.0)
    place.write("a.yaml", GOOD % "one")
    assert not place.files.scan(10.04, closed={"a.yaml"})
    assert not place.files.scan(20.0)
    assert place.names() == ["one"]


def test_a_file_that_comes_back_and_is_not_to_be_believed_keeps_what_was_good(place: PolicyDirectory) -> None:
    path = place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    path.unlink()
    place.files.scan(10.0)
    place.write("a.yaml", GOOD % "intruder").chmod(0o666)
    place.files.scan(10.0 + VANISH, closed={"a.yaml"})
    assert (place.names(), place.messages()) == (["one"], ["a.yaml: can be written by group or others (mode 0666)"])
    assert (place.files.next_wakeup(), place.files.count) == (None, 1)


def test_a_vanished_directory_counts_like_its_files(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    moved = place.directory.rename(place.directory.with_name("moved"))
    assert not place.files.scan(1.0)
    moved.rename(place.directory)
    assert not place.files.scan(1.04)
    place.directory.rename(moved)
    place.files.scan(2.0)
    assert place.files.scan(2.0 + VANISH)
    assert place.names() == []


def test_a_bad_file_changes_nothing_and_is_reported(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.write("b.yaml", GOOD % "two")
    place.files.scan(0.0)
    place.write("a.yaml", BAD)
    assert place.files.scan(1.0, closed={"a.yaml"})
    assert place.names() == ["one", "two"]
    assert place.messages()[0] == "a.yaml: port 0 is out of range"
    assert place.files.count == 2
    place.write("a.yaml", GOOD % "mended")
    assert place.files.scan(2.0, closed={"a.yaml"})
    assert (place.names(), place.messages()) == (["mended", "two"], [])


def test_a_directory_that_others_can_write_keeps_what_was_good(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.directory.chmod(0o777)
    place.write("b.yaml", GOOD % "intruder")
    place.files.scan(1.0, closed={"b.yaml"})
    assert (place.names(), place.messages()) == (["one"], ["policies.d: can be written by group or others (mode 0777)"])
    place.directory.chmod(0o755)
    place.files.scan(2.0, closed={"b.yaml"})
    assert (place.names(), place.messages()) == (["one", "intruder"], [])


def test_what_is_no_regular_file_is_a_problem_and_hangs_nothing(place: PolicyDirectory) -> None:
    os.mkfifo(place.directory / "fifo.yaml", 0o600)
    (place.directory / "folder.yaml").mkdir()
    (place.directory / "dangling.yaml").symlink_to("nowhere")
    (place.directory / "loop.yaml").symlink_to("loop.yaml")
    (place.directory / "device.yaml").symlink_to("/dev/zero")
    place.write("new\nline.yaml", GOOD % "x")
    place.write("z.yaml", GOOD % "one")
    place.files.scan(0.0)
    assert place.names() == ["one"]
    assert place.messages() == [
        "dangling.yaml: is a link that points nowhere",
        "device.yaml: is not a regular file",
        "fifo.yaml: is not a regular file",
        "folder.yaml: is not a regular file",
        "loop.yaml: cannot be read: Too many levels of symbolic links",
        "new\nline.yaml: has a name that cannot be printed",
    ]
    told = [str(each) for each in place.files.problems()][-1]
    assert told.splitlines()[0] == f"{place.directory}/new\ufffdline.yaml: has a name that cannot be printed"


def test_a_link_is_followed_and_a_change_of_its_target_noticed_without_an_event(place: PolicyDirectory, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text(GOOD % "one")
    target.chmod(0o644)
    (place.directory / "a.yaml").symlink_to(target)
    place.files.scan(0.0)
    assert place.names() == ["one"]
    target.write_text(GOOD % "two")
    place.files.scan(1.0)
    place.files.scan(1.0 + SETTLE)
    assert place.names() == ["two"]


def test_a_file_too_large_is_a_problem(place: PolicyDirectory) -> None:
    place.write("a.yaml", "policies: []\n" + "#" * (1 << 20))
    place.files.scan(0.0)
    assert place.messages() == ["a.yaml: the file has more than 1048576 bytes"]


def test_a_watch_that_fails_is_a_problem_until_it_works(place: PolicyDirectory) -> None:
    assert place.files.note_watch("cannot be watched: Too many open files")
    assert place.messages() == ["policies.d: cannot be watched: Too many open files"]
    assert place.files.note_watch("")
    assert place.messages() == []
