"""Rules that are saved with ours and restored at boot: the commands of docs/firewalls.md, run on a real kernel."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.daemon.saved_rules import SavedRules
from dataplane.firewall.backends.backends import Backend, firewall
from tests.repository.test_docs import FENCE
from tests.testlib.hosts import Host, allow, make_host
from tests.testlib.netns import Netns

PAGE = Path(__file__).parents[3] / "docs" / "firewalls.md"
SAVE, MEND, TRY = [text for _, text in FENCE.findall(PAGE.read_text()) if "/etc/iptables" in text]
OWN = "-A INPUT -s 192.0.2.1/32 -j DROP"


@pytest.fixture(params=list(Backend), ids=lambda each: each.value)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param)


@pytest.fixture
def host(netns: Callable[[str], Netns], backend: Backend) -> Host:
    made = make_host(netns, containers=1, firewall=firewall(backend))
    made.netns.run(f"iptables-{backend.value}", *OWN.split())
    made.become(made.with_workloads(made.workload(0, allow(1, "8080"))))
    made.kernel.close()
    return made


def shell(commands: str, folder: Path, backend: Backend, *, at: Netns) -> int:
    """Run commands of the page, with `folder` for /etc/iptables and this flavour's tools."""
    for word in ("save", "restore"):
        commands = commands.replace(f"tables-{word}", f"tables-{backend.value}-{word}")
    script = "set -e\n" + commands.replace("/etc/iptables", str(folder))
    return at.start("sh", "-c", script, stderr=subprocess.DEVNULL).wait(60)


def test_rules_saved_with_ours_are_refused_at_boot_until_they_are_mended(
    host: Host, backend: Backend, netns: Callable[[str], Netns], tmp_path: Path
) -> None:
    saved, whole = SavedRules([tmp_path / "rules.v4", tmp_path / "rules.v6"]), SAVE.replace("| sed /CELLNET/d ", "")
    assert shell(whole, tmp_path, backend, at=host.netns) == 0
    assert shell(TRY, tmp_path, backend, at=host.netns) != 0
    assert [each.hint.split()[3].rstrip(",") for each in saved.problems()] == [
        str(tmp_path / "rules.v4"), str(tmp_path / "rules.v6"),
    ]  # fmt: skip
    assert shell(MEND, tmp_path, backend, at=host.netns) == 0
    assert list(saved.problems()) == []
    assert_restored(tmp_path, backend, netns)


def test_rules_saved_without_ours_come_back_at_boot(
    host: Host, backend: Backend, netns: Callable[[str], Netns], tmp_path: Path
) -> None:
    assert shell(SAVE, tmp_path, backend, at=host.netns) == 0
    assert list(SavedRules([tmp_path / "rules.v4"]).problems()) == []
    assert_restored(tmp_path, backend, netns)


def assert_restored(folder: Path, backend: Backend, netns: Callable[[str], Netns]) -> None:
    booted = netns("booted")
    assert shell(TRY, folder, backend, at=booted) == 0
    assert shell(TRY.replace("unshare --net ", ""), folder, backend, at=booted) == 0
    assert [line for line in booted.run(f"iptables-{backend.value}-save").splitlines() if line.startswith("-A")] == [OWN]
