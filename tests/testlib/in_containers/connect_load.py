"""Streams of connects, one process each, as a script inside a container: `connect_load.py ADDRESS PORT` connects, and
`connect_load.py PORT` accepts.

A caller connects again and again until its standard input ends. For each line there it prints all outcomes so far:
`{"connected": 123}`. A connection is reset at once, so that its port is free again.
"""

import errno
import json
import select
import socket
import sys
import time
from collections import Counter

SECONDS = 10.0  # for a connect; a SYN that was lost is sent again after one second
AT_ONCE = 20
PAUSE = 0.0003  # seconds between two connects: the process that changes rules meanwhile needs a processor too
RESET = b"\1\0\0\0\0\0\0\0"


def connect(target: tuple[str, int]) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.settimeout(SECONDS)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        try:
            made.connect(target)
        except TimeoutError:
            return "silent"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "unknown")
        return "connected"


def call(target: tuple[str, int]) -> None:
    outcomes: Counter[str] = Counter()
    while True:
        for _ in range(AT_ONCE):
            outcomes[connect(target)] += 1
            time.sleep(PAUSE)
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(outcomes), flush=True)


def accept(port: int) -> None:
    with socket.create_server(("", port), backlog=4096) as listener:
        print("ready", flush=True)
        while True:
            listener.accept()[0].close()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        accept(int(sys.argv[1]))
    call((sys.argv[1], int(sys.argv[2])))
