"""Calls without end, as a script inside a container: `python call_load.py PORT ADDRESS...` calls each address in turn.

A call succeeds when the other end, which echoes, has given back what it was sent. For each line on standard input the outcomes
of all calls so far are printed, those that failed with address, reason and time:
`{"done": 123, "10.255.1.3 ended at 1764590412.3": 1}`.
"""

import errno
import json
import select
import socket
import sys
import time
from collections import Counter

SECONDS = 10.0  # for a call; a SYN that was lost is sent again after one second
PAUSE = 0.01  # seconds between two calls


def call(target: tuple[str, int]) -> str:
    """Empty if it succeeds, else why not."""
    phase, port = "connect", 0
    try:
        with socket.create_connection(target, timeout=SECONDS) as made:
            phase, port = "answer", made.getsockname()[1]
            made.sendall(b"call")
            got = b""
            while len(got) < 4 and (more := made.recv(4)):
                got += more
    except TimeoutError:
        return f"silent, no {phase} (from {port})"
    except OSError as error:
        return f"{errno.errorcode.get(error.errno or 0, 'unknown')}, no {phase} (from {port})"
    return "" if got == b"call" else f"ended (from {port})"


def main(port: int, addresses: list[str]) -> None:
    outcomes: Counter[str] = Counter()
    while True:
        for address in addresses:
            failure = call((address, port))
            outcomes[f"{address} {failure} at {time.time():.1f}" if failure else "done"] += 1
            time.sleep(PAUSE)
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
