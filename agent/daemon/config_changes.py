"""Whether agent.yaml is still what the agent runs by: it is read at the start only."""

from collections.abc import Iterator

from agent.config.file import ConfigFile
from agent.errors import HostRefused
from agent.model.status import Part, Problem


class ConfigChanges(Part):
    """The file that the agent was started with, compared whenever the status is asked for."""

    def __init__(self, file: ConfigFile | None) -> None:
        self._file = file

    def problems(self) -> Iterator[Problem]:
        """One where the file has changed, has gone, has come, or cannot be read."""
        if self._file is None:
            return
        try:
            change = self._file.change()
        except HostRefused as error:
            yield Problem("config", error.what, error.hint)
            return
        if change:
            yield Problem("config", f"{self._file.path} {change}", "restart the agent to take it up")
