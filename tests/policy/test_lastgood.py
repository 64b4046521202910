"""The last good version of a policy file: it holds while the file is bad, over a restart too, and its copy is the agent's."""

import hashlib
import os

import pytest

from tests.testlib.policy_directory import BAD, GOOD, PolicyDirectory


def test_the_last_good_version_survives_a_restart_and_the_problem_is_reported_again(place: PolicyDirectory) -> None:
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.save()
    place.write("a.yaml", BAD)
    place.start().scan(0.0)
    assert (place.names(), place.messages()[0]) == (["one"], "a.yaml: port 0 is out of range")
    assert place.files.policies()[0].origin.source == str(place.directory / "a.yaml")


def test_a_bad_file_says_which_version_stays_in_force_before_a_restart_and_after_it(place: PolicyDirectory) -> None:
    path = place.write("a.yaml", GOOD % "one")
    os.utime(path, (1_796_000_000, 1_796_000_000))
    place.files.scan(0.0)
    place.save()
    place.write("a.yaml", BAD)
    place.files.scan(1.0, closed={"a.yaml"})
    words = "its version of 2026-11-30 00:53:20 UTC stays in force (1 policy)"
    assert str(place.files.problems()[0]).splitlines()[-1] == words
    place.start().scan(0.0)
    assert str(place.files.problems()[0]).splitlines()[-1] == words
    path.chmod(0o666)
    place.files.scan(1.0)
    assert [each.note for each in place.files.problems()] == [words, ""]
    path.chmod(0o644)
    place.write("a.yaml", GOOD % "mended")
    place.files.scan(2.0, closed={"a.yaml"})
    assert place.files.problems() == ()


def test_a_bad_file_without_a_good_version_says_that_nothing_of_it_is_in_force(place: PolicyDirectory) -> None:
    place.write("a.yaml", BAD)
    place.files.scan(0.0)
    words = "it has no earlier good version: nothing of it is in force"
    assert str(place.files.problems()[0]).splitlines()[-1] == words


def test_a_bad_file_that_never_was_good_allows_nothing(place: PolicyDirectory) -> None:
    place.write("a.yaml", BAD)
    place.files.scan(0.0)
    place.save()
    place.start().scan(0.0)
    assert (place.names(), len(place.messages()) > 0) == ([], True)


def test_a_file_removed_while_the_agent_was_down_is_gone_at_its_first_scan(place: PolicyDirectory) -> None:
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
def test_a_damaged_copy_counts_for_nothing(place: PolicyDirectory, damage: object) -> None:
    assert callable(damage)
    place.write("a.yaml", GOOD % "one")
    place.files.scan(0.0)
    place.save()
    copy = place.copies / "a.yaml"
    copy.write_bytes(damage(copy.read_bytes()))
    place.write("a.yaml", BAD)
    place.start().scan(0.0)
    assert place.names() == []


def test_a_copy_is_the_hash_and_the_content_for_the_agent_alone(place: PolicyDirectory) -> None:
    text = GOOD % "one"
    place.write("a.yaml", text)
    place.files.scan(0.0)
    place.save()
    copy = place.copies / "a.yaml"
    assert copy.read_text() == f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}"
    assert (copy.stat().st_mode & 0o777, place.copies.stat().st_mode & 0o777) == (0o600, 0o700)
    assert sorted(each.name for each in place.copies.iterdir()) == ["a.yaml"]


def test_a_copy_that_cannot_be_kept_is_a_problem_until_it_can(place: PolicyDirectory) -> None:
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


def test_what_changes_while_copies_are_written_is_saved_the_next_time(place: PolicyDirectory) -> None:
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
    unsaved = place.files.unsaved
    assert {name: version and version.content for name, version in unsaved.items()} == {"a.yaml": None, "b.yaml": newer}
    place.save()
    assert place.files.unsaved == {}
    assert [(each.name, each.read_bytes().endswith(newer)) for each in place.copies.iterdir()] == [("b.yaml", True)]


def test_the_copy_before_survives_a_write_that_fails(place: PolicyDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_file_that_others_can_write_or_own_keeps_its_last_good_version(place: PolicyDirectory) -> None:
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
