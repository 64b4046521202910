"""A caller inside a container that measures: a script of its own, which reads questions and writes answers as lines of JSON.

Starting curl takes longer than what is measured. Times are CLOCK_MONOTONIC, which is the same in every process of a machine.

    {"do": "connect", "address": A, "port": P}   -> {"outcome": "connected"|"refused"|…, "at": T, "seconds": S}
    {"do": "poll", …}     until GET / answers 200 -> {"outcome": "200"|…, …}
    {"do": "stream", …}   GET /stream             -> {"outcome": "streaming", …}, and when it ends {"outcome": "reset"|…, …}
"""

import json
import socket
import sys
import time

PATIENCE = 5.0  # seconds after which nothing comes anymore
PAUSE = 0.0005
WORDS = {
    ConnectionRefusedError: "refused",
    ConnectionResetError: "reset",
    BrokenPipeError: "reset",
    TimeoutError: "timed out",
}


def outcome_of(error: OSError) -> str:
    """An error in one word."""
    return WORDS.get(type(error), str(error.strerror or error))


def answer(outcome: str, *, since: float) -> None:
    """Write one line."""
    now = time.monotonic()
    print(json.dumps({"outcome": outcome, "at": now, "seconds": now - since}), flush=True)


def connect(address: str, port: int) -> None:
    """One connection, closed at once."""
    started = time.monotonic()
    try:
        socket.create_connection((address, port), timeout=PATIENCE).close()
    except OSError as error:
        answer(outcome_of(error), since=started)
    else:
        answer("connected", since=started)


def get(address: str, port: int) -> str:
    """The status of one GET /."""
    with socket.create_connection((address, port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(4096).partition(b"\r\n")[0].decode(errors="replace").split(" ")[1]


def poll(address: str, port: int) -> None:
    """Until it answers 200."""
    started = time.monotonic()
    found = "silent"
    while found != "200" and time.monotonic() < started + PATIENCE:
        try:
            found = get(address, port)
        except OSError as error:
            found = outcome_of(error)
            time.sleep(PAUSE)
        except IndexError:
            found = "no HTTP"
    answer(found, since=started)


def stream(address: str, port: int) -> None:
    """Read until the connection ends; silence for PATIENCE seconds is an end, too."""
    started = time.monotonic()
    streaming = False
    try:
        with socket.create_connection((address, port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /stream HTTP/1.0\r\n\r\n")
            while connection.recv(65536):
                if not streaming:
                    answer("streaming", since=started)
                streaming = True
        answer("closed", since=started)
    except OSError as error:
        answer(outcome_of(error), since=started)


if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        {"connect": connect, "poll": poll, "stream": stream}[asked["do"]](asked["address"], asked["port"])
