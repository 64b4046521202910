"""A script inside a container: `python first_call.py NAME PORT FILE` calls until it gets through, and writes when that was.

The time is the kernel's since its start, in seconds, which all containers and machines of a host share.
"""

import socket
import sys
import time
from pathlib import Path

SECONDS, PAUSE = 1.0, 0.005


def main(name: str, port: int, file: str) -> None:
    while True:
        try:
            with socket.create_connection((name, port), timeout=SECONDS):
                Path(file).write_text(f"{time.monotonic()}\n")
                break
        except OSError:
            time.sleep(PAUSE)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
