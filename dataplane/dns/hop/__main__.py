"""The hop as a process, while names of the outside are wanted; before and after it is what waits (`doorway.py`)."""

import asyncio
import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

from dataplane.dns.hop.doorway import doorway_command
from dataplane.dns.hop.service import serve

LOOK: Final = 1.0  # seconds between looks for the file
LINGER: Final = 10.0  # seconds after it has gone: policies are replaced, containers started anew


async def serve_while_wanted(
    datagrams: socket.socket, connections: socket.socket, *, wanted: Path, agent: Path, servers: Path, linger: float = LINGER
) -> None:
    """Until no name has been wanted for so many seconds. The sockets stay open."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(datagrams.dup(), connections.dup(), agent=agent, servers=servers), name="serve")
        end = time.monotonic() + linger
        while time.monotonic() < end:
            await asyncio.sleep(min(LOOK, linger))
            if await asyncio.to_thread(wanted.exists):
                end = time.monotonic() + linger
        serving.cancel()


def main(words: list[str]) -> None:
    """`words`: the descriptors of both sockets, the file that says that names are wanted, the agent's socket, the file of name
    servers; they are passed on.
    """
    datagrams, connections = (socket.socket(fileno=int(word)) for word in words[:2])
    wanted, agent, servers = map(Path, words[2:5])
    asyncio.run(serve_while_wanted(datagrams, connections, wanted=wanted, agent=agent, servers=servers))
    argv = doorway_command(str(Path(__file__).parents[3]), words)
    os.execv(argv[0], argv)  # noqa: S606 -- no shell is what is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
