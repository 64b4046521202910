"""What an error in the log tells: where it came from, never what the values were."""

import subprocess
import sys

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
