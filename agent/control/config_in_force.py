"""The configuration that the agent runs by, what agent.yaml says otherwise by now, and taking that up without a restart.

A file with a mistake changes nothing, and is a problem of the status for as long as it has one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from agent import log
from agent.config.config import Config
from agent.config.current import CurrentConfig
from agent.config.file import digest_of, read
from agent.config.written import NEED_EMPTY, KeyChange, all_values, changes, with_live
from agent.errors import RAISED, HostRefused, InvalidInput
from agent.model.status import Part, Problem

RELOAD = "cellnet config reload takes it up"


@dataclass(frozen=True, slots=True)
class FileSeen:
    """The content's digest, None where there is no file; what the file says, or why it cannot be taken."""

    digest: bytes | None
    config: Config | None
    refused: InvalidInput | HostRefused | None = None


class ConfigInForce(Part):
    """`load` reads it all again as at the start; `take` has the agent's parts go by another one; `reread`
    reads policy files, which are followed by themselves where their file system says what changes.
    """

    def __init__(
        self,
        current: CurrentConfig,
        *,
        load: Callable[[], Config],
        take: Callable[[Config], None],
        reread: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._current = current
        self._load = load
        self._take = take
        self._reread = reread
        file = current.config.file
        self._seen = FileSeen(None if file is None else file.digest, current.config)
        self._log = log.get("config")

    @property
    def config(self) -> Config:
        """What the agent runs by."""
        return self._current.config

    def problems(self) -> Iterator[Problem]:
        """Mistakes in the file, and keys that have another value there."""
        if self.config.file is None:
            return
        path, seen = self.config.file.path, self._look()
        if seen.refused is not None:
            if isinstance(seen.refused, HostRefused):
                yield Problem("config", seen.refused.what, seen.refused.hint)
            else:
                what = f"{path} has mistakes, and nothing of it is taken:\n{seen.refused.what}"
                yield Problem("config", what, "mend it; cellnet config check says whether it is right")
        elif differing := self.differing():
            live, others = [each.key for each in differing if each.live], [each for each in differing if not each.live]
            shown = ", ".join(f"{each.key} ({each.after} there, {each.before} here)" for each in differing)
            hint = f"restart the agent to take up {', '.join(each.key for each in others)}" if others else RELOAD
            if empty := NEED_EMPTY.intersection(each.key for each in others):
                hint += f": for {', '.join(sorted(empty))} once it has no containers (cellnet drain)"
            more = f"; {RELOAD.replace(' it ', ' ' + ', '.join(live) + ' ')}" if others and live else ""
            yield Problem("config", f"{path} differs from what runs: {shown}", hint + more)

    def differing(self) -> tuple[KeyChange, ...]:
        """What the file says otherwise. None of it where it has mistakes."""
        seen = self._seen
        return () if seen.config is None else changes(self.config, seen.config)

    def values(self) -> dict[str, str]:
        """What is in force, by key."""
        return all_values(self.config)

    def reload(self) -> tuple[KeyChange, ...]:
        """Take what can be taken; all that was otherwise. Raises InvalidInput, HostRefused: then nothing has changed."""
        wanted = self._load()
        found = changes(self.config, wanted)
        made = with_live(self.config, wanted)
        self._current.config = made
        self._take(made)
        self._seen = FileSeen(None if wanted.file is None else wanted.file.digest, wanted)
        taken, others = [each.key for each in found if each.live], [each.key for each in found if not each.live]
        self._log.info("reloaded", taken=taken, needs_restart=others)
        return found

    async def reread(self) -> None:
        """Policy files too, whatever has become of agent.yaml."""
        if self._reread is not None:
            await self._reread()

    def reload_quietly(self) -> None:
        """As for a signal: what is wrong is in the log and the status."""
        try:
            self.reload()
        except RAISED as error:
            self._log.error("not_reloaded", what=error.what, hint=error.hint)

    async def follow(self, signals: asyncio.Event) -> None:
        """Reload whenever there is a signal. Ends only by cancellation."""
        while True:
            await signals.wait()
            signals.clear()
            self.reload_quietly()
            await self.reread()

    def _look(self) -> FileSeen:
        """Parsed only where it is another one than at the last look."""
        assert self.config.file is not None
        try:
            content = read(self.config.file.path)
        except HostRefused as error:
            return FileSeen(None, None, error)
        digest = None if content is None else digest_of(content)
        if digest != self._seen.digest or self._seen.refused is not None:
            try:
                self._seen = FileSeen(digest, self._load())
            except (InvalidInput, HostRefused) as error:
                self._seen = FileSeen(digest, None, error)
        return self._seen
