"""Where this host's cellnet is: the folder above its paths, its config and, without reading all of that, its socket."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.client.connection import Client
from agent.errors import HostRefused, InvalidInput
from agent.wording import program

if TYPE_CHECKING:
    from agent.config.config import Config

CONFIG = Path("/etc/cellnet/agent.yaml")
SOCKET = Path("/run/cellnet/agent.sock")
MOVED = re.compile(rb"^(?!\s*#).*\bpaths\b", re.MULTILINE)  # in a line that is no comment


@dataclass(frozen=True, slots=True)
class Location:
    """The global options. `root` prefixes every path; `config` replaces the config file's."""

    root: Path | None
    config: Path | None

    @property
    def config_file(self) -> Path:
        """The config file in use."""
        return self.config.absolute() if self.config is not None else self._below(CONFIG)

    def _below(self, path: Path) -> Path:
        return path if self.root is None else self.root.absolute() / path.relative_to("/")

    def load(self) -> "Config":
        """The whole config. Raises InvalidInput that shows every error of the file, HostRefused where it cannot be read.

        A file that was named must be there.
        """
        from agent.config.load import load

        root, named = None if self.root is None else self.root.absolute(), self.config is not None
        return load(self.config_file, root=root, hostname=os.uname().nodename, required=named)

    def socket(self) -> Path:
        """The control socket. Parsing YAML takes longer than a whole `ps`, so it is left out where no path is set.

        An agent goes on by what it had where the file has mistakes since: where a socket is at the default place it is asked.
        """
        try:
            moved = MOVED.search(self.config_file.read_bytes()) is not None
        except OSError:
            moved = self.config is not None  # else there is none, or it is not ours to read: the default place
        if not moved:
            return self.default_socket
        try:
            return self.load().paths.control_socket
        except InvalidInput:
            with suppress(OSError):  # not ours to see
                if self.default_socket.is_socket():
                    return self.default_socket
            raise

    @property
    def default_socket(self) -> Path:
        """Where the control socket is unless the config, which may not be readable, says otherwise."""
        return self._below(SOCKET)

    def client(self) -> Client:
        """The agent of this place."""
        named = (("--root", self.root), ("--config", self.config))
        return Client(self.socket(), tuple(word for name, path in named if path for word in (name, str(path.absolute()))))


def need_root(command: str) -> None:
    """Raises HostRefused unless we are root."""
    if os.geteuid() != 0:
        raise HostRefused(f"'{command}' needs root", hint=f"sudo {program()}{command.removeprefix('cellnet')} …")
