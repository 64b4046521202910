"""The log: an error shows where it came from and no values, and a log that cannot be written stops nothing."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from agent import log
log.configure()
def handler(password):
    raise KeyError("x")
try:
    handler("correct-" + "horse")
except KeyError as error:
    log.get("control").error("failed", exc_info=error)
"""


def test_a_traceback_shows_no_values_on_a_terminal_or_off_it() -> None:
    command, environment = f'{sys.executable} -c "$PROGRAM"', {"PROGRAM": PROGRAM, "PATH": "/usr/bin:/bin"}
    plain = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env=environment).stderr
    shown = ["script", "-qec", command, "/dev/null"]
    terminal = subprocess.run(
        shown, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, env=environment
    ).stdout
    for said in (plain, terminal):
        assert "KeyError" in said
        assert "in handler" in said
        assert "correct-horse" not in said


SCRIPT = """
import sys
from agent import log
log.configure()
for number in range(2000):
    log.get("test").error("something", number=number)
print("goes on")
"""


@pytest.mark.parametrize("sink", ["a full disk", "a reader that has gone"])
def test_a_log_that_takes_nothing_ends_no_process(disk: Path, sink: str) -> None:
    if sink == "a full disk":
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        descriptor = os.open(disk / "log", os.O_WRONLY | os.O_CREAT)
    else:
        reading, descriptor = os.pipe()
        os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=descriptor, check=False)
    finally:
        os.close(descriptor)
    assert (done.returncode, done.stdout) == (0, b"goes on\n")


def test_a_log_that_takes_everything_has_a_line_of_json_for_each_event() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    assert [json.loads(line)["number"] for line in done.stderr.splitlines()] == list(range(2000))
