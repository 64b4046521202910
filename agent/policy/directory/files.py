"""The policy directory as one value that changes over time: which policies its files allow, and what is wrong with them.

Every rule about belief is here, and the clock is an argument: a file that vanishes is believed gone after VANISH, a
file with a mistake keeps its last good version, content that nobody said is complete is believed when it has not
changed for SETTLE. `directory.py` calls `scan`; `reading.py` and `lastgood.py` touch the disk.
"""

import hashlib
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from agent.config.problems import InvalidSource, Mistake
from agent.model.outside import NOTHING_INSIDE, Inside
from agent.model.policy import Policy
from agent.policy.directory.lastgood import GoodVersion, LastGood
from agent.policy.directory.reading import Folder, Stamp, Unbelievable, opened
from agent.policy.language.language import parse

VANISH = 0.05  # seconds; editors rename and create
SETTLE = 1.0  # seconds; who writes in place without closing gets this long between two writes

Copies: TypeAlias = Mapping[str, GoodVersion | None]
Failures: TypeAlias = Mapping[str, OSError]


@dataclass(slots=True)
class _Candidate:
    """Content that was read and is not believed yet."""

    version: GoodVersion
    digest: bytes
    since: float


@dataclass(slots=True)
class _File:
    """One file. `digest` is of the content parsed last, `policies` those of its last good version, written at `good`."""

    stamp: Stamp | None = None
    digest: bytes | None = None
    policies: tuple[Policy, ...] = ()
    good: int | None = None  # nanoseconds since 1970
    mistakes: tuple[Mistake, ...] = ()
    refused: Mistake | None = None
    candidate: _Candidate | None = None
    missing_since: float | None = None

    @property
    def problems(self) -> tuple[Mistake, ...]:
        found = self.mistakes if self.refused is None else (self.refused, *self.mistakes)
        return (replace(found[0], note=self._in_force()), *found[1:]) if found else ()

    def _in_force(self) -> str:
        if self.good is None:
            return "it has no earlier good version: nothing of it is in force"
        count = len(self.policies)
        written = datetime.fromtimestamp(self.good // 10**9, UTC)
        policies = "1 policy" if count == 1 else f"{count} policies"
        return f"its version of {written:%Y-%m-%d %H:%M:%S} UTC stays in force ({policies})"


class PolicyFiles:
    """What the files of `directory` allow; `last_good` is where their last good versions are kept."""

    def __init__(self, directory: Path, *, last_good: Path, inside: Inside = NOTHING_INSIDE) -> None:
        self.directory = directory
        self._inside = inside
        self._copies = LastGood(last_good)
        self._files: dict[str, _File] = {}
        self._policies: tuple[Policy, ...] = ()
        self._problems: tuple[Mistake, ...] = ()
        self._unsaved: dict[str, GoodVersion | None] = {}
        self._save_problem: Mistake | None = None
        self._folder_problem: Mistake | None = None
        self._watch_problem: Mistake | None = None
        self._others: dict[str, float] = {}  # what is no policy file, and since when it is there
        self._unread: dict[str, Mistake] = {}
        self._started = False

    def policies(self) -> tuple[Policy, ...]:
        """The policies in force, by file name and line; the same object as long as nothing changed."""
        return self._policies

    def problems(self) -> tuple[Mistake, ...]:
        """Everything that is wrong now, by file and line; the same object as long as nothing changed."""
        return self._problems

    def unenforced(self) -> tuple[Mistake, ...]:
        """Those for which something on disk is not in force; the others only threaten what comes later."""
        later = (self._watch_problem, self._save_problem, *self._unread.values())
        return tuple(each for each in self._problems if each not in later)

    def waiting(self) -> tuple[str, ...]:
        """Files whose latest state is not believed yet; empty when all that is on disk is in `policies`."""
        return tuple(sorted(n for n, file in self._files.items() if file.candidate or file.missing_since is not None))

    @property
    def count(self) -> int:
        """How many files there are, good or bad."""
        return len(self._files)

    def next_wakeup(self) -> float | None:
        """When `scan` will know more without any event, on the clock of `now`; None for never."""
        times = [file.missing_since + VANISH for file in self._files.values() if file.missing_since is not None]
        times += [file.candidate.since + SETTLE for file in self._files.values() if file.candidate]
        times += [since + SETTLE for name, since in self._others.items() if name not in self._unread]
        return min(times, default=None)

    def scan(
        self,
        now: float,
        *,
        closed: Container[str] = (),
        reread: bool = False,
        unsettled: Callable[[], Collection[str]] = tuple,
    ) -> bool:
        """Look at the directory once; True if policies or problems changed. The first scan believes all that it sees.

        `now`: seconds of a clock that never goes back. `closed`: files whose writer said that they are complete (closed
        or renamed into place). `reread`: read also what looks unchanged. `unsettled` is asked after reading: files that
        were touched meanwhile, so that what was read of them may be half of it.
        """
        if not self._started:
            self._recall()
        try:
            with opened(self.directory) as folder:
                self._folder_problem = None
                self._look(folder, now, closed=closed, reread=reread)
        except Unbelievable as error:
            self._folder_problem = Mistake(str(self.directory), 0, 0, error.what, error.hint)
        touched = unsettled()
        for name, file in self._files.items():
            if file.candidate and name in touched:
                file.candidate.since, file.stamp = now, None
            elif file.candidate and (not self._started or now >= file.candidate.since + SETTLE):
                self._believe(name, file, file.candidate)
            elif file.candidate and name in closed and file.candidate.version.content:
                self._believe(name, file, file.candidate)  # an empty one: the next writer's truncation shows before its event
        self._started = True
        return self._summed_up()

    @property
    def unsaved(self) -> Copies:
        """What the copies on disk do not have yet, by name; None for a file that is gone."""
        return dict(self._unsaved)

    def save(self, copies: Copies) -> Failures:
        """Bring these copies up to date; what went wrong, by name. Touches the disk only: may run in a thread of its own."""
        failures: dict[str, OSError] = {}
        for name, version in copies.items():
            try:
                self._copies.remove(name) if version is None else self._copies.write(name, version)
            except OSError as error:
                failures[name] = error
        return failures

    def note_saved(self, copies: Copies, failures: Failures) -> bool:
        """Take in what `save` did; True if that changed the problems."""
        for name, version in copies.items():
            if name not in failures and name in self._unsaved and self._unsaved[name] is version:
                del self._unsaved[name]  # else the file has changed meanwhile
        self._save_problem = None
        for name, error in failures.items():
            hint = "until it is kept, a restart while the file is broken loses its policies; free the disk"
            path = str(self.directory / name)
            self._save_problem = Mistake(path, 0, 0, f"its last good version cannot be kept: {error.strerror}", hint)
        return self._summed_up()

    def note_watch(self, problem: str) -> bool:
        """Say that changes are not noticed at once, empty for that they are again; True if that changed the problems."""
        hint = "changes take effect within seconds; raise fs.inotify.max_user_instances or max_user_watches"
        self._watch_problem = Mistake(str(self.directory), 0, 0, problem, hint) if problem else None
        return self._summed_up()

    def _recall(self) -> None:
        """Start from the copies, as if their files had been seen before."""
        for name, version in self._copies.load().items():
            try:
                policies = self._parse(name, version)
            except InvalidSource:  # an older agent's: not good any more
                continue
            self._files[name] = _File(digest=hashlib.sha256(version.content).digest(), policies=policies, good=version.modified)

    def _look(self, folder: Folder | None, now: float, *, closed: Container[str], reread: bool) -> None:
        for name in sorted(folder.names) if folder else ():
            assert folder is not None
            file = self._files.setdefault(name, _File())
            try:
                self._look_at(folder, name, file, now, certainly=reread or name in closed)
            except FileNotFoundError:
                self._miss(file, now)
            except Unbelievable as error:
                file.refused = Mistake(str(self.directory / name), 0, 0, error.what, error.hint)
                file.candidate = file.stamp = file.missing_since = None
        for name in self._files.keys() - (folder.names if folder else ()):
            self._miss(self._files[name], now)
        for name in [name for name, file in self._files.items() if self._is_gone(file, now)]:
            del self._files[name]
            self._unsaved[name] = None
        self._look_at_others(folder, now)

    def _look_at_others(self, folder: Folder | None, now: float) -> None:
        """What is no policy file is reported when it stays: a new file may have another name until it is whole."""
        self._others = {name: self._others.get(name, now) for name in folder.others} if folder else {}
        self._unread = {
            name: Mistake(str(self.directory / name), 0, 0, *folder.why_unread(name))
            for name, since in sorted(self._others.items())
            if folder and (not self._started or now >= since + SETTLE)
        }

    def _look_at(self, folder: Folder, name: str, file: _File, now: float, *, certainly: bool) -> None:
        if not name.isprintable():
            raise Unbelievable("has a name that cannot be printed", hint="rename it")
        stamp = folder.stamp(name)
        if certainly or file.candidate is not None or stamp != file.stamp:
            content = folder.read(name)
            digest = hashlib.sha256(content).digest()
            if digest == file.digest:
                file.candidate = None
            elif file.candidate is None or file.candidate.digest != digest:
                file.candidate = _Candidate(GoodVersion(content, stamp.modified), digest, now)
        file.stamp, file.missing_since, file.refused = stamp, None, None

    def _miss(self, file: _File, now: float) -> None:
        if file.missing_since is None:
            file.missing_since = now
        file.candidate = file.stamp = None

    def _is_gone(self, file: _File, now: float) -> bool:
        """What a copy remembers and the first scan does not find has been gone for longer than VANISH."""
        return file.missing_since is not None and (not self._started or now >= file.missing_since + VANISH)

    def _believe(self, name: str, file: _File, candidate: _Candidate) -> None:
        file.digest, file.candidate = candidate.digest, None
        try:
            file.policies, file.mistakes = self._parse(name, candidate.version), ()
            self._unsaved[name], file.good = candidate.version, candidate.version.modified
        except InvalidSource as error:
            file.mistakes = error.problems

    def _parse(self, name: str, version: GoodVersion) -> tuple[Policy, ...]:
        return parse(version.content, source=str(self.directory / name), inside=self._inside)

    def _summed_up(self) -> bool:
        files = [self._files[name] for name in sorted(self._files)]
        policies = tuple(policy for file in files for policy in file.policies)
        general = (self._watch_problem, self._folder_problem, self._save_problem)
        problems = (*filter(None, general), *self._unread.values(), *(problem for file in files for problem in file.problems))
        changed = False
        if policies != self._policies:
            self._policies, changed = policies, True
        if problems != self._problems:
            self._problems, changed = problems, True
        return changed
