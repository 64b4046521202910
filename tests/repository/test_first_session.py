"""The README's first session, line by line in a real cell: what it shows is what comes back."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from lab import children
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, steps

pytestmark = pytest.mark.release

DONE = "--done--"
CURL_OF_12, CURL_OF_13 = "Couldn't connect to server", "Could not connect to server"
SECONDS = 30.0


class Shell:
    """A bash in the cell, as `cellnet lab exec 1 -- bash` gives a user."""

    def __init__(self, cell: CellUnderTest) -> None:
        self._process = subprocess.Popen(
            ["nsenter", f"--net={cell.lab.netns}", "bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=children.environment(cell.lab.root),
        )  # fmt: skip

    def run(self, command: str) -> str:
        """What comes back before the next prompt."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho {DONE}\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line == f"{DONE}\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended at: {command}\n{''.join(lines)}")

    def wait_for(self, command: str) -> None:
        """A reader types slower than an app starts; we do not."""
        until = time.monotonic() + SECONDS
        while "yes" not in self.run(f"{command} >/dev/null 2>&1 && echo yes"):
            assert time.monotonic() < until, f"never true: {command}"
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the apps, then the shell."""
        self.run("kill $(jobs -p); wait")
        self._process.communicate("exit\n", timeout=SECONDS)


@pytest.fixture
def shell(make_cell: Callable[..., CellUnderTest]) -> Iterator[Shell]:
    made = Shell(make_cell())
    try:
        yield made
    finally:
        made.close()


def steady(text: str) -> str:
    """Without what differs from run to run, and from one release's curl to the next."""
    return re.sub(r"after \d+ ms", "after N ms", text).replace(CURL_OF_13, CURL_OF_12)


def test_the_readmes_first_session_is_what_a_user_sees(shell: Shell) -> None:
    checked = 0
    (session,) = blocks("README.md", test="tests/repository/test_first_session.py")
    for command, output in steps(session):
        came = shell.run(command)
        if command.endswith("&"):
            name = re.findall(r"--app acme/shop/(\w+)", command)[0]
            shell.wait_for(f"cellnet ps | grep '^{name} '")
            if "http.server" in command:
                shell.wait_for(f"cellnet exec {name} -- curl http://127.0.0.1:8080/")
            continue
        assert steady(came) == steady(output), command
        checked += 1
    assert checked == 8
