"""What is believed of the policy directory and when, with the clock in the test's hand and real files."""

import hashlib
import os
from pathlib import Path

import pytest

from agent.policy.files import SETTLE, VANISH, PolicyFiles

GOOD = "policies: [{name: %s, from: a/b/c, to: a/b/d, tcp: 80}]\n"
BAD = "policies: [{name: bad, from: a/b/c, to: a/b/d, tcp: 0}]\n"


class Place:
    """A policy directory and the agent's state beside it."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "policies.d"
        self.directory.mkdir(mode=0o755)
        self.copies = folder / "state" / "policies"
        self.files = self.start()

    def start(self) -> PolicyFiles:
        """The agent's part, as after a restart."""
        self.files = PolicyFiles(self.directory, last_good=self.copies)
        return self.files

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def save(self) -> bool:
        """Both halves of saving, with nothing in between."""
        copies = self.files.unsaved
        return self.files.note_saved(copies, self.files.save(copies))

    def names(self) -> list[str]:
        return [policy.name for policy in self.files.policies()]

    def messages(self) -> list[str]:
        return [f"{Path(each.file).name}: {each.message}" for each in self.files.problems()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_first_scan_believes_what_it_sees(place: Place) -> None:
    place.write("b.yaml", GOOD % "two")
    place.write("a.yaml", GOOD % "one")
    assert place.files.scan(0.0)
    assert (place.names(), place.messages(), place.files.waiting()) == (["one", "two"], [], ())


def test_a_scan_that_finds_nothing_new_changes_nothing_and_keeps_the_objects(place: Place) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    before = place.files.policies()
    assert not place.files.scan(1.0)
    assert not place.files.scan(2.0, reread=True)
    assert place.files.policies() is before


def test_a_missing_and_an_empty_directory_allow_nothing_and_are_no_problem(place: Place) -> None:
    assert not place.files.scan(0.0)
    place.directory.rmdir()
    assert not place.files.scan(1.0)
    assert (place.names(), place.messages()) == ([], [])


@pytest.mark.parametrize("name", [".hidden.yaml", "a.yaml~", ".a.yaml.swp"])
def test_hidden_files_and_editors_backups_are_not_policy_files(place: Place, name: str) -> None:
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
def test_what_is_not_read_is_a_problem_with_the_name_that_would_be(place: Place, name: str, wanted: str) -> None:
    path = place.write(name, GOOD % "one")
    place.files.scan(0.0)
    assert place.names() == []
    assert place.messages() == [f"{name}: is not read: the name of a policy file ends in .yaml"]
    assert place.files.problems()[0].hint == f"rename it to {wanted}, or move it away"
    assert place.files.unenforced() == ()
    path.rename(path.with_name("b.yaml"))
    place.files.scan(1.0, closed={"b.yaml"})
    assert (place.names(), place.messages()) == (["one"], [])


def test_a_subfolder_is_not_read_and_a_problem(place: Place) -> None:
    (place.directory / "team").mkdir()
    (place.directory / "team" / "a.yaml").write_text(GOOD % "one")
    place.files.scan(0.0)
    assert place.messages() == ["team: is not read: policy files stand in the directory itself"]


def test_a_name_that_is_there_for_a_moment_only_is_no_problem(place: Place) -> None:
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


def test_a_file_is_taken_as_soon_as_its_writer_has_closed_it(place: Place) -> None:
    place.files.scan(0.0)
    place.write("a.yaml", GOOD % "one")
    assert place.files.scan(1.0, closed={"a.yaml"})
    assert place.names() == ["one"]


def test_a_change_without_a_close_event_is_taken_when_it_has_settled(place: Place) -> None:
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


def test_an_empty_file_is_a_mistake_only_if_it_stays_empty(place: Place) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.write("a.yaml", "")
    assert not place.files.scan(1.0, closed={"a.yaml"})
    assert place.files.scan(1.0 + SETTLE)
    assert (place.names(), place.messages()) == (["one"], ["a.yaml: the file is empty"])


def test_what_was_touched_while_it_was_read_is_not_believed(place: Place) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.write("a.yaml", "policies: []\n")
    assert not place.files.scan(1.0, closed={"a.yaml"}, unsettled=lambda: {"a.yaml"})
    assert place.names() == ["one"]
    place.write("a.yaml", GOOD % "two")
    assert place.files.scan(1.0, closed={"a.yaml"})
    assert place.names() == ["two"]


def test_a_vanished_file_is_believed_gone_after_fifty_milliseconds_and_not_before(place: Place) -> None:
    path = place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    path.unlink()
    assert not place.files.scan(10.0)
    assert place.files.next_wakeup() == pytest.approx(10.0 + VANISH)
    assert not place.files.scan(10.0 + VANISH - 0.001)
    assert place.files.scan(10.0 + VANISH)
    assert (place.names(), place.files.next_wakeup(), VANISH) == ([], None, 0.05)


def test_a_file_that_comes_back_within_fifty_milliseconds_was_never_gone(place: Place) -> None:
    path = place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    path.rename(path.with_suffix(".yaml~"))
    assert not place.files.scan(10.0)
    place.write("a.yaml", GOOD % "one")
    assert not place.files.scan(10.04, closed={"a.yaml"})
    assert not place.files.scan(20.0)
    assert place.names() == ["one"]


def test_a_vanished_directory_counts_like_its_files(place: Place) -> None:
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


def test_a_bad_file_changes_nothing_and_is_reported(place: Place) -> None:
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


def test_the_last_good_version_survives_a_restart_and_the_problem_is_reported_again(place: Place) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.save()
    place.write("a.yaml", BAD)
    place.start().scan(0.0)
    assert (place.names(), place.messages()[0]) == (["one"], "a.yaml: port 0 is out of range")
    assert place.files.policies()[0].origin.source == str(place.directory / "a.yaml")


def test_a_bad_file_that_never_was_good_allows_nothing(place: Place) -> None:
    place.write("a.yaml", BAD)
    place.files.scan(0.0)
    place.save()
    place.start().scan(0.0)
    assert (place.names(), len(place.messages()) > 0) == ([], True)


def test_a_file_removed_while_the_agent_was_down_is_gone_at_its_first_scan(place: Place) -> None:
    path = place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.save()
    path.unlink()
    place.start().scan(0.0)
    assert place.names() == []
    place.save()
    place.write("a.yaml", BAD)
    place.start().scan(0.0)
    assert place.names() == []


@pytest.mark.parametrize("damage", [lambda copy: copy[:-1], lambda copy: b"", lambda copy: copy.replace(b"80", b"81")])
def test_a_damaged_copy_counts_for_nothing(place: Place, damage: object) -> None:
    assert callable(damage)
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.save()
    copy = place.copies / "a.yaml"
    copy.write_bytes(damage(copy.read_bytes()))
    place.write("a.yaml", BAD)
    place.start().scan(0.0)
    assert place.names() == []


def test_a_copy_is_the_hash_and_the_content_for_the_agent_alone(place: Place) -> None:
    text = GOOD % "one"
    place.write("a.yaml", text)
    place.files.scan(0.0)
    place.save()
    copy = place.copies / "a.yaml"
    assert copy.read_text() == f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"
    assert (copy.stat().st_mode & 0o777, place.copies.stat().st_mode & 0o777) == (0o600, 0o700)
    assert sorted(each.name for each in place.copies.iterdir()) == ["a.yaml"]


def test_a_copy_that_cannot_be_kept_is_a_problem_until_it_can(place: Place) -> None:
    place.copies.parent.mkdir()
    place.copies.write_text("a file where the directory should be")
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    assert place.save()
    assert (place.names(), bool(place.files.unsaved)) == (["one"], True)
    assert place.messages() == ["a.yaml: its last good version cannot be kept: File exists"]
    place.copies.unlink()
    assert place.save()
    assert (place.messages(), place.files.unsaved) == ([], {})


def test_what_changes_while_copies_are_written_is_saved_the_next_time(place: Place) -> None:
    gone = place.write("a.yaml", GOOD % "one")
    place.write("b.yaml", GOOD % "two")
    place.files.scan(0.0)
    copies = place.files.unsaved
    gone.unlink()
    newer = place.write("b.yaml", GOOD % "three").read_bytes()
    place.files.scan(1.0, closed={"b.yaml"})
    failures = place.files.save(copies)
    place.files.scan(2.0)  # a scan may come at any moment of a save, which runs in a thread
    place.files.note_saved(copies, failures)
    assert place.files.unsaved == {"a.yaml": None, "b.yaml": newer}
    place.save()
    assert place.files.unsaved == {}
    assert [(each.name, each.read_bytes().endswith(newer)) for each in place.copies.iterdir()] == [("b.yaml", True)]


def test_the_copy_before_survives_a_write_that_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.save()

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    place.write("a.yaml", GOOD % "two")
    place.files.scan(1.0, closed={"a.yaml"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        place.save()
    assert place.messages() == ["a.yaml: its last good version cannot be kept: No space left on device"]
    place.write("a.yaml", BAD)
    place.start().scan(0.0)
    assert place.names() == ["one"]


def test_a_file_that_others_can_write_or_own_keeps_its_last_good_version(place: Place) -> None:
    path = place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    path.write_text(GOOD % "forged")
    path.chmod(0o664)
    place.files.scan(1.0, closed={"a.yaml"})
    assert (place.names(), place.messages()) == (["one"], ["a.yaml: can be written by group or others (mode 0664)"])
    path.chmod(0o644)
    os.chown(path, 65534, 0)
    place.files.scan(2.0, closed={"a.yaml"})
    assert (place.names(), place.messages()) == (["one"], ["a.yaml: belongs to uid 65534, not to root"])
    os.chown(path, 0, 0)
    place.files.scan(3.0, closed={"a.yaml"})
    assert (place.names(), place.messages()) == (["forged"], [])


def test_a_directory_that_others_can_write_keeps_what_was_good(place: Place) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.directory.chmod(0o777)
    place.write("b.yaml", GOOD % "intruder")
    place.files.scan(1.0, closed={"b.yaml"})
    assert (place.names(), place.messages()) == (["one"], ["policies.d: can be written by group or others (mode 0777)"])
    place.directory.chmod(0o755)
    place.files.scan(2.0, closed={"b.yaml"})
    assert (place.names(), place.messages()) == (["one", "intruder"], [])


def test_what_is_no_regular_file_is_a_problem_and_hangs_nothing(place: Place) -> None:
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


def test_a_link_is_followed_and_a_change_of_its_target_noticed_without_an_event(place: Place, tmp_path: Path) -> None:
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


def test_a_file_too_large_is_a_problem(place: Place) -> None:
    place.write("a.yaml", "policies: []\n" + "#" * (1 << 20))
    place.files.scan(0.0)
    assert place.messages() == ["a.yaml: the file has more than 1048576 bytes"]


def test_a_watch_that_fails_is_a_problem_until_it_works(place: Place) -> None:
    assert place.files.note_watch("cannot be watched: Too many open files")
    assert place.messages() == ["policies.d: cannot be watched: Too many open files"]
    assert place.files.note_watch("")
    assert place.messages() == []
