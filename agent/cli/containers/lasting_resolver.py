"""The resolv.conf of a command that runs for long: a mount over a file ends when another file gets its name.

DHCP clients, NetworkManager and package upgrades write the host's /etc/resolv.conf and nsswitch.conf beside their place and
rename them into it, which takes the mounts of all other namespaces away: a command would go on with the host's. So
`cellnet run` has the kernel report changes of /etc, and mounts anew what is gone.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from agent.cli.containers.identity_mounts import private_mounts
from agent.cli.containers.resolver_mounts import ETC, files_of, trees_of
from host import syscalls

CHANGES = fcntl.DN_CREATE | fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MULTISHOT


class LastingResolver:
    """For the command that is process `pid`; `text` is the content of its resolv.conf."""

    def __init__(self, text: str, *, pid: int) -> None:
        self._text = text
        self._pid = pid

    def follow(self) -> None:
        """From now on each change of /etc is a SIGIO for this process, which must have that blocked. Then `renew` is to be
        called, and once after this, for what was before it. Ends with the process.
        """
        folder = os.open(ETC, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):  # a kernel without it: the command has what it was started with
            fcntl.fcntl(folder, fcntl.F_NOTIFY, CHANGES)

    def renew(self) -> None:
        """Mount what is not there as it should be. Where that fails the next change is a new try."""
        files = {name: content for name, content in files_of(self._text).items() if not self._has(name, content)}
        if not files:
            return
        helper = os.fork()
        if helper == 0:
            try:
                self._mount(files)
            finally:
                os._exit(0)
        os.waitpid(helper, 0)

    def _has(self, name: str, content: str) -> bool:
        try:
            return Path(f"/proc/{self._pid}/root{ETC}/{name}").read_text(errors="surrogateescape") == content
        except OSError:
            return False

    def _mount(self, files: dict[str, str]) -> None:
        """The mounts are made in a namespace of their own: /etc is out of sight while they are."""
        there = os.open(f"/proc/{self._pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        private_mounts()
        trees = trees_of(files)
        syscalls.setns(there, syscalls.CLONE_NEWNS)
        for name, tree in trees.items():
            with suppress(OSError):  # it is just being replaced, which is a change that we shall hear of
                syscalls.move_mount(tree, str(ETC / name))
