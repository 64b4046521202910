"""The process that asks the agent for something, by its pid for as long as that is its own."""

import os
import select
from dataclasses import dataclass, field

from agent.errors import Conflict


class PeerProcess:
    """A process by its pidfd, which is closed with this object."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def lives(self) -> bool:
        """Whether it has not ended, so that its pid is its own."""
        return not self._poll.poll(0)


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of the socket, as the kernel saw it when it connected (pid 0: not visible from here).

    A path that a client names is looked up below `/proc/<pid>/root`. `process` is None where it ended
    before it was seen, and for those that may not attach anyhow.
    """

    pid: int
    uid: int
    gid: int
    process: PeerProcess | None = field(default=None, compare=False)

    def refuse_ended(self) -> None:
        """Raise Conflict if what was found by the pid until now may be another process's."""
        if self.process is None or not self.process.lives:
            raise Conflict(f"the process that asked (pid {self.pid}) has ended", hint="let it wait for the answer")
