"""Fixtures of every test, and the check that a test run leaves the machine as it found it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.testlib.cell import cell, cell_kind, cell_overrides, make_cell, module_cell  # noqa: F401 -- fixtures
from tests.testlib.netns import PREFIX, Netns

pytest_plugins = ["tests.repository.skips"]


@pytest.fixture
def netns() -> Iterator[Callable[[str], Netns]]:
    """Makes network namespaces, and removes them after the test."""
    made: list[Netns] = []

    def make(word: str = "ns") -> Netns:
        made.append(Netns(word))
        return made[-1]

    yield make
    for each in reversed(made):
        each.close()


def traces() -> dict[str, str]:
    """What a test could leave behind on this machine, by kind."""
    saved = {tool: subprocess.run([tool], capture_output=True, text=True, check=False).stdout
             for tool in ("iptables-nft-save", "iptables-legacy-save")}  # fmt: skip
    rules = {tool: "\n".join(line for line in text.splitlines() if line[:1] in ("-", ":") and "CELLNET" in line)
             for tool, text in saved.items()}  # fmt: skip
    links = sorted(name for name in os.listdir("/sys/class/net") if name.startswith("cnet"))
    pins = sorted(name for name in os.listdir("/run/netns") if name.startswith(PREFIX)) if Path("/run/netns").is_dir() else []
    return {**rules, "links": " ".join(links), "namespaces": " ".join(pins)}


@pytest.fixture(scope="session", autouse=True)
def the_machine_is_left_as_it_was() -> Iterator[None]:
    """Compares the machine's own rules, links and namespaces before and after the run."""
    before = traces()
    yield
    assert traces() == before
