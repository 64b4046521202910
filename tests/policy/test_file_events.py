"""A walk through everything that can happen to policy files, with the real watch on real files.

Whatever happens, the watch lives, and nothing is ever in force but what a trusted file has held in full. When all is quiet
again, each file's good content is in force, a vanished file's is not, and a bad one changes nothing.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.policy.directory import events as events_module
from agent.policy.directory import files as files_module
from agent.policy.directory.directory import watch
from agent.policy.directory.files import PolicyFiles

NAMES = ("a.yaml", "b.yaml")
SETTLE, VANISH, PERIOD = 0.03, 0.01, 0.1  # seconds; short, so that a walk does not take minutes
PATIENCE = 10.0
NOBODY = 65534
BEGUN = 60  # bytes of a content: not yet its end

Policies = tuple[str, ...]
"""The names of the policies that a file has in force."""

BAD = (
    b"", b"#", b"policies", b"policies: [", b"- x", b"policies: [{name: evil, from: a/b/c, to: a/b/d, tcp: 0}]",
    b"policies: [{name: evil, from: a/b/c, to: a/b/d, tcp: 80}]\nmore: []\n", b"\xff\xfe", b"policies: []\0",
    b"policies: [{name: evil, from: a/b/c, to: a/b/d, tcp: 80}]\n---\npolicies: []\n",
    b"policies: [{name: evil, from: a/b/c, to: a/b/d, tcp: 80}]\n#" + b"x" * (2 << 20),
)  # fmt: skip


def content(*names: str) -> bytes:
    rules = ", ".join(f"{{name: {name}, from: a/b/c, to: a/b/d, tcp: 80}}" for name in names)
    return f"policies: [{rules}]\n".encode()


class Walk(RuleBasedStateMachine):
    """`on_disk` is what each file says now: policies in full, () for a file that is gone, None for a bad one."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        for module in (files_module, events_module):
            self.stack.enter_context(patch.object(module, "SETTLE", SETTLE))
        self.stack.enter_context(patch.object(files_module, "VANISH", VANISH))
        self.root = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.directory = self.root / "policies.d"
        self.directory.mkdir(mode=0o755)
        self.files = PolicyFiles(self.directory, last_good=self.root / "state")
        self.on_disk: dict[str, Policies | None] = dict.fromkeys(NAMES, ())
        self.possible: dict[str, set[Policies]] = {name: {()} for name in NAMES}
        self.said: set[Policies] = {()}
        self.is_trusted = True
        self.numbers = 0
        self.loop = asyncio.new_event_loop()
        self.stack.callback(self.loop.close)
        self.task = self.loop.create_task(watch(self.files, self.look, period=PERIOD))
        self.pause(0.05)

    def teardown(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.task)
        self.stack.close()

    # what is looked at

    def in_force(self) -> dict[str, Policies]:
        found: dict[str, Policies] = dict.fromkeys(NAMES, ())
        for policy in self.files.policies():
            found[Path(policy.origin.source).name] += (policy.name,)
        return found

    def look(self) -> None:
        """At each change: all of one trusted content, or nothing."""
        assert set(self.in_force().values()) <= self.said, self.in_force()

    def is_told(self, name: str) -> bool:
        return any(Path(each.file).name in (name, self.directory.name) for each in self.files.problems())

    def is_quiet(self) -> bool:
        found = self.in_force()
        if not self.is_trusted:
            return any(each.file == str(self.directory) for each in self.files.problems())
        settled = all(self.is_told(name) if wanted is None else found[name] == wanted for name, wanted in self.on_disk.items())
        return settled and not self.files.waiting()

    def pause(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.wait([self.task], timeout=seconds))
        assert not self.task.done(), self.task.exception()

    # what happens

    @rule(name=st.sampled_from(NAMES), ways=st.lists(st.integers(0, 16), min_size=1, max_size=4), data=st.data())
    def something_happens_to_a_file(self, name: str, ways: list[int], data: st.DataObject) -> None:
        """One thing after the other, with time to look in between or without."""
        for way in ways:
            path = self.directory / name
            found = WAYS[way](self, path, data)
            self.on_disk[name] = found
            if found is not None:
                self.said.add(found)
                self.possible[name].add(found)
            self.pause(data.draw(st.sampled_from([0.0, 0.002, 2 * VANISH, 2 * SETTLE])))

    @rule()
    def one_takes_the_others_name(self) -> None:
        first, second = NAMES
        if (self.directory / first).is_file() and not (self.directory / second).is_dir():
            (self.directory / first).rename(self.directory / second)
            moved, self.on_disk[first] = self.on_disk[first], ()
            self.on_disk[second] = moved
            self.possible[first].add(())
            self.possible[second].update(() if moved is None else (moved,))

    @rule(seconds=st.sampled_from([0.0, 5 * VANISH]))
    def the_directory_goes_away_and_comes_back(self, seconds: float) -> None:
        away = self.directory.rename(self.root / "away")
        self.pause(seconds)
        away.rename(self.directory)
        for name in NAMES:
            self.possible[name].add(())  # bad files have lost their last good version, if it took too long

    @rule()
    @precondition(lambda self: self.is_trusted)
    def others_may_write_the_directory(self) -> None:
        self.directory.chmod(0o777)
        self.is_trusted = False

    @rule()
    @precondition(lambda self: not self.is_trusted)
    def only_root_may_write_the_directory(self) -> None:
        self.directory.chmod(0o755)
        self.is_trusted = True

    @invariant()
    def what_is_good_is_in_force_and_nothing_else(self) -> None:
        until = self.loop.time() + PATIENCE
        while not self.is_quiet():
            assert self.loop.time() < until, (self.on_disk, self.in_force(), self.files.problems(), self.files.waiting())
            self.pause(0.005)
        found = self.in_force()
        assert all(found[name] in self.possible[name] for name in NAMES), (found, self.possible)
        if self.is_trusted:
            self.possible = {name: {found[name]} for name in NAMES}

    def fresh(self, word: str) -> tuple[bytes, Policies]:
        self.numbers += 1
        names = (f"{word}{self.numbers}-one", f"{word}{self.numbers}-two")
        return content(*names), names


def clear(path: Path) -> None:
    """Remove what is not a plain file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()


def put(path: Path, text: bytes) -> None:
    clear(path)
    path.write_bytes(text)
    os.chown(path, 0, 0)
    path.chmod(0o644)


def good_in_place(walk: Walk, path: Path, _data: st.DataObject) -> Policies:
    text, names = walk.fresh("p")
    put(path, text)
    return names


def good_in_two_parts(walk: Walk, path: Path, _data: st.DataObject) -> Policies:
    text, names = walk.fresh("p")
    put(path, b"#")
    with path.open("wb") as file:
        for part in (text[:BEGUN], text[BEGUN:]):
            file.write(part)
            file.flush()
            walk.pause(0.002)
    return names


def good_renamed(walk: Walk, path: Path, _data: st.DataObject) -> Policies:
    text, names = walk.fresh("p")
    clear(path)
    put(path.with_name(".new"), text)
    path.with_name(".new").rename(path)
    return names


def good_by_a_link(walk: Walk, path: Path, _data: st.DataObject) -> Policies:
    text, names = walk.fresh("p")
    target = walk.root / f"target{walk.numbers}"
    put(target, text)
    replace_by_link(path, str(target))
    return names


def good_over_a_link(walk: Walk, path: Path, _data: st.DataObject) -> Policies:
    """The link in the directory stays, one that it leads over is swapped."""
    text, names = walk.fresh("p")
    target, led = walk.root / f"target{walk.numbers}", path.readlink() if path.is_symlink() else walk.root
    current = led if led.name.startswith("current") else walk.root / f"current{walk.numbers}"
    put(target, text)
    replace_by_link(current, str(target))
    if led != current:
        replace_by_link(path, str(current))
    return names


def bad_in_place(_walk: Walk, path: Path, data: st.DataObject) -> None:
    put(path, data.draw(st.sampled_from(BAD)))


def bad_renamed(_walk: Walk, path: Path, data: st.DataObject) -> None:
    clear(path)
    put(path.with_name(".new"), data.draw(st.sampled_from(BAD)))
    path.with_name(".new").rename(path)


def truncated(_walk: Walk, path: Path, data: st.DataObject) -> None:
    text = content("evil-one", "evil-two")
    put(path, text[: data.draw(st.integers(0, len(text) - 3))])


def begun_and_left(walk: Walk, path: Path, _data: st.DataObject) -> None:
    """Killed in the middle: closed by the kernel."""
    put(path, b"#")
    with path.open("wb") as file:
        file.write(content("evil-one", "evil-two")[:BEGUN])
        file.flush()
        walk.pause(SETTLE)


def gone(_walk: Walk, path: Path, _data: st.DataObject) -> Policies:
    clear(path)
    path.unlink(missing_ok=True)
    return ()


def by_a_useless_link(walk: Walk, path: Path, data: st.DataObject) -> None:
    targets = ("nowhere", path.name, str(walk.root), "/dev/zero", "/proc/self/mem")
    replace_by_link(path, data.draw(st.sampled_from(targets)))


def a_directory(_walk: Walk, path: Path, _data: st.DataObject) -> None:
    clear(path)
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "inner.yaml").write_bytes(content("evil"))


def a_pipe(_walk: Walk, path: Path, _data: st.DataObject) -> None:
    clear(path)
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)


def written_by_others(_walk: Walk, path: Path, data: st.DataObject) -> None:
    clear(path)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    mode, owner = data.draw(st.sampled_from([(0o666, 0), (0o620, 0), (0o644, NOBODY)]))
    os.fchown(descriptor, owner, 0)
    os.fchmod(descriptor, mode)
    with open(descriptor, "wb") as file:
        file.write(content("evil"))


def without_permission(walk: Walk, path: Path, data: st.DataObject) -> Policies:
    """Root reads it all the same."""
    names = good_in_place(walk, path, data)
    path.chmod(0)
    return names


def replace_by_link(path: Path, target: str) -> None:
    clear(path)
    link = path.with_name(".link")
    link.symlink_to(target)
    link.rename(path)


WAYS: tuple[Callable[[Walk, Path, st.DataObject], Policies | None], ...] = (
    good_in_place, good_in_two_parts, good_renamed, good_by_a_link, good_over_a_link, good_over_a_link, without_permission,
    gone, gone, bad_in_place, bad_renamed, truncated, begun_and_left, by_a_useless_link, a_directory, a_pipe, written_by_others,
)  # fmt: skip

TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=20, stateful_step_count=8)
