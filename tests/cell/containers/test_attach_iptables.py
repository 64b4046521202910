"""The firewall's tool fails, hangs or is locked out: nothing passes or is called ready meanwhile, and all comes right."""

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.errors import HostRefused
from dataplane.firewall.backends.legacy import lock_file
from lab import children
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_reset
from tests.testlib.containers import Attach
from tests.testlib.footprint import nothing_left
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually

pytestmark = pytest.mark.release

MakeNetns = Callable[[str], Netns]
TOOL = "iptables-nft-restore"
WRAPPER = """#!/bin/sh
if [ -e {folder}/fails ]; then echo "the kernel is in a bad mood" >&2; exit 4; fi
while [ -e {folder}/hangs ]; do touch {folder}/hanging; sleep 0.02; done
exec {tool} "$@"
"""
POLICY = "policies:\n- {from: acme/shop/web, to: acme/shop/api, tcp: [8080, 61443]}\n"


@dataclass(frozen=True)
class Tool:
    """A tool first on the agent's PATH, which works until the test breaks it."""

    folder: Path

    @contextmanager
    def that(self, word: str) -> Iterator[None]:
        """It "fails" or "hangs" for as long as the block lasts."""
        (self.folder / word).touch()
        try:
            yield
        finally:
            (self.folder / word).unlink()
            (self.folder / "hanging").unlink(missing_ok=True)

    @property
    def hangs(self) -> bool:
        return (self.folder / "hanging").exists()


@pytest.fixture(scope="module", autouse=True)
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """Made before the module's cell, whose agent finds it by its PATH."""
    folder = tmp_path_factory.mktemp("tool")
    real = next(path for part in os.environ["PATH"].split(":") if (path := Path(part, TOOL)).exists())
    (folder / TOOL).write_text(WRAPPER.format(folder=folder, tool=real))
    (folder / TOOL).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield Tool(folder)


def test_an_attach_whose_rules_are_refused_reports_the_reason_and_leaves_nothing(
    cell: CellUnderTest, tool: Tool, attach: Attach, netns: MakeNetns
) -> None:
    place = netns("web")
    with tool.that("fails"), nothing_left(cell, place, swept=True), pytest.raises(HostRefused) as refusal:
        attach("acme/shop/web", to=place)
    assert f"{TOOL}: the kernel is in a bad mood" in refusal.value.what
    assert cell.host.connect(attach("acme/shop/web", to=place), 61443) is Connected


def test_an_attach_waits_for_its_rules_and_nothing_passes_before(
    cell: CellUnderTest, tool: Tool, attach: Attach, netns: MakeNetns
) -> None:
    api, place = attach("acme/shop/api"), netns("web")
    api.listen(8080)
    cell.policy_file("shop.yaml", POLICY)
    with ThreadPoolExecutor(1) as pool:
        with tool.that("hangs"):
            waiting = pool.submit(attach, "acme/shop/web", to=place)
            eventually(lambda: tool.hangs)
            assert cell.attachments() == ["api"]  # the agent still answers
            assert "eth0" not in place.run("ip", "-o", "link")
            assert not waiting.done()
        web = waiting.result()
    assert web.connect(api, 8080) is Connected


def test_a_run_killed_while_its_rules_hang_leaves_nothing(cell: CellUnderTest, tool: Tool) -> None:
    words = ["nsenter", f"--net={cell.lab.netns}", "--", *children.CELLNET]
    with nothing_left(cell, swept=True), tool.that("hangs"):
        run = [*words, "run", "--app", "acme/shop/web", "--", "sleep", "infinity"]
        running = subprocess.Popen(run, env=children.environment(cell.lab.root))
        eventually(lambda: tool.hangs)
        running.kill()
        running.wait()


def test_sync_and_policy_commands_wait_for_the_rules(cell: CellUnderTest, tool: Tool, attach: Attach) -> None:
    web, api = attach("acme/shop/web"), attach("acme/shop/api")
    api.listen(8080)
    with ThreadPoolExecutor(1) as pool:
        with tool.that("hangs"):
            allowing = pool.submit(cell.cellnet, "policy", "allow", "acme/shop/web", "acme/shop/api", "tcp/8080")
            eventually(lambda: tool.hangs)
            said = cell.cellnet("sync", "--timeout", "0.3", code=1).err
            assert "not enforced within 0.3 s" in said
            assert not allowing.done()
            assert web.connect(api, 8080) is Refused
        allowing.result()
        assert web.connect(api, 8080) is Connected


def test_what_could_not_be_enforced_is_reported_and_enforced_later(cell: CellUnderTest, tool: Tool, attach: Attach) -> None:
    web, api = attach("acme/shop/web"), attach("acme/shop/api")
    api.listen(8080)
    with tool.that("fails"):
        path = cell.policy_file("shop.yaml", POLICY, sync=False)
        eventually(lambda: "bad mood" in cell.cellnet("status", code=None).out)
        assert "bad mood" in cell.cellnet("sync", "--timeout", "0.3", code=1).err
        assert "bad mood" in cell.cellnet("policy", "allow", "acme/shop/api", "acme/shop/web", "tcp/8080", code=1).err
        assert web.connect(api, 8080) is Refused
    cell.wait_well()
    assert web.connect(api, 8080) is Connected
    live = web.dial(api, 8080)
    with tool.that("fails"):
        path.unlink()
        eventually(lambda: "bad mood" in cell.cellnet("status", code=None).out)
    cell.wait_well()
    assert web.connect(api, 8080) is Refused
    assert is_reset(live)


def test_a_held_xtables_lock_is_nothing_to_the_nft_backend(cell: CellUnderTest, attach: Attach) -> None:
    with lock_file().open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        web, api = attach("acme/shop/web"), attach("acme/shop/api")
        api.listen(8080)
        cell.policy_file("shop.yaml", POLICY)
        assert web.connect(api, 8080) is Connected
