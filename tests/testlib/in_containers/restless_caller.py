"""A caller that never rests, as a script inside a container: `python restless_caller.py ADDRESS PORT TLS_PORT`.

It has a stream open to each of the two ports, both of an app that echoes, and calls both again and again. For each line on
standard input it prints how many exchanges there were since the last line, and all failures so far:
`{"call": 90, "tls stream": 40, "failed": []}`.
"""

import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter

SECONDS = 10.0  # for an exchange
PAUSE = 0.01  # seconds between two

done: Counter[str] = Counter()
failed: list[str] = []


def dial(address: str, port: int, *, tls: bool) -> socket.socket:
    made = socket.create_connection((address, port), timeout=SECONDS)
    if not tls:
        return made
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # whom it is, others test
    return context.wrap_socket(made)


def exchange(connection: socket.socket) -> None:
    connection.sendall(b"call")
    got = b""
    while len(got) < 4:
        more = connection.recv(4)
        if not more:
            raise OSError("the other end has closed")
        got += more


def call(address: str, port: int, *, tls: bool, kind: str) -> None:
    while True:
        began, phase = time.time(), "no connection"
        try:
            with dial(address, port, tls=tls) as made:
                phase = f"no answer on port {made.getsockname()[1]}"
                exchange(made)
            done[kind] += 1
        except OSError as error:
            failed.append(f"{kind} at {began:.2f}: {phase}: {error}")
        time.sleep(PAUSE)


def stream(address: str, port: int, *, tls: bool, kind: str) -> None:
    try:
        with dial(address, port, tls=tls) as made:
            while True:
                exchange(made)
                done[kind] += 1
                time.sleep(PAUSE)
    except OSError as error:
        failed.append(f"{kind} at {time.time():.2f}: {error}")


def main(address: str, plain: int, secure: int) -> None:
    for word, work in (("call", call), ("stream", stream)):
        for tls in (False, True):
            kind, port = f"{'tls ' if tls else ''}{word}", secure if tls else plain
            threading.Thread(target=work, args=(address, port), kwargs={"tls": tls, "kind": kind}, daemon=True).start()
    while sys.stdin.readline():
        counted = dict(done)
        done.subtract(counted)
        print(json.dumps({**counted, "failed": failed}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]))
