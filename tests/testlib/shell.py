"""A shell in a cell, and a session that a document shows, played in it: what it shows is what comes back."""

import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from lab import children
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import steps

DONE = "--done--"
CURL_OF_12, CURL_OF_13 = "Couldn't connect to server", "Could not connect to server"
SECONDS = 30.0


class Shell:
    """A bash in the cell, as `cellnet lab exec 1 -- bash` gives a user. `home` is where that user's own files are."""

    def __init__(self, cell: CellUnderTest, *, home: Path) -> None:
        environment = {**children.environment(cell.lab.root), "XDG_CONFIG_HOME": str(home / ".config"), "CELLNET_SPACE": ""}
        self._process = subprocess.Popen(
            ["nsenter", f"--net={cell.lab.netns}", "bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=environment, cwd=home,
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

    def wait_until_it_runs(self, command: str) -> None:
        """Until what was put into the background is attached, serves its port, or has its connection."""
        if app := re.search(r" --app (\S+)", command):
            self.wait_for(f"cellnet ps | grep -i '^{app[1].rpartition('/')[2]} '")
        inside = app[1].rpartition("/")[2] if app else re.findall(r"exec (\S+)", command)[0]
        if port := re.search(r"http\.server (\d+)", command):
            self.wait_for(f"cellnet exec {inside} -- curl -o /dev/null http://127.0.0.1:{port[1]}/")
        elif port := re.search(r"curl .*:(\d+)/", command):
            self.wait_for(f"cellnet exec {inside} -- ss -Htn state established | grep -E ':{port[1]}( |$)'")

    def play(self, *sessions: str, instead: Mapping[str, str]) -> int:
        """Run each command that is shown, and compare what it prints; how many were compared.

        `instead`: what is shown -> what comes here, as a pattern.
        """
        compared = 0
        for command, output in (step for each in sessions for step in steps(each)):
            came = self.run(command)
            if command.endswith("&"):
                self.wait_until_it_runs(command)
                continue
            pattern = re.escape(steady(output))
            for shown, here in instead.items():
                pattern = pattern.replace(re.escape(steady(shown)), here)
            assert re.fullmatch(pattern, steady(came)), f"{command}\nshown:\n{output}came:\n{came}"
            compared += 1
        return compared

    def close(self) -> None:
        """Ends the apps, then the shell."""
        self.run("kill $(jobs -p); wait")
        self._process.communicate("exit\n", timeout=SECONDS)


def steady(text: str) -> str:
    """Without what differs from run to run, and from one release's curl to the next."""
    return re.sub(r"after \d+ ms", "after N ms", text).replace(CURL_OF_13, CURL_OF_12)
