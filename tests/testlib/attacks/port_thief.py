"""A program of root's in a container that has taken the number of Envoy's user, and so may listen beside Envoy."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = """
import os, socket, sys
os.setgroups([]), os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
made = socket.socket()
made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
made.bind((sys.argv[2], int(sys.argv[3])))
made.listen()
while True:
    connection, _ = made.accept()
    connection.send(b"stolen")
"""


@contextmanager
def beside_envoy(pid: int, pin: Path, *, address: str, port: int) -> Iterator[None]:
    """It listens there for as long as the block lasts; `pid` is Envoy's."""
    uid = str(os.stat(f"/proc/{pid}").st_uid)
    command = [sys.executable, "-IS", "-c", SCRIPT, uid, address, str(port)]
    with subprocess.Popen(["nsenter", f"--net={pin}", *command]) as thief:
        try:
            yield
        finally:
            thief.kill()
