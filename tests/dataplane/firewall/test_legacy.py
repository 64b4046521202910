"""The legacy backend beside other programs that change the same tables: the lock is kept, nothing of theirs is lost."""

import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import iptc
import pytest

from dataplane.compile import compile_tables
from dataplane.firewall.backends import legacy, python_iptables, python_iptables_trial
from dataplane.firewall.backends.backends import Backend
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.restore import restore_text
from dataplane.firewall.rights import of_container
from dataplane.plan import Delta
from dataplane.state import Allow
from dataplane.tables import ChainKey
from host import process
from host.errors import HostRefused
from host.namespace import NamespaceId, NamespaceThread
from lab import processes
from tests.testlib.crashes.fork_server import ApplyState, fork_server
from tests.testlib.hosts import EMPTY, FIRST, Host, allow, make_host
from tests.testlib.netns import Netns
from tests.testlib.oracle import Mode
from tests.testlib.patience import PATIENCE, eventually
from tests.testlib.tunnels.modes import MODES

pytestmark = pytest.mark.release


@pytest.fixture
def firewall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LegacyFirewall:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    return LegacyFirewall(patience=0.1)


@pytest.fixture
def host(netns: Callable[[str], Netns], firewall: LegacyFirewall) -> Iterator[Host]:
    made = make_host(netns, containers=2, firewall=firewall)
    made.become(made.with_workloads(made.workload(0), made.workload(1, allow(1, "8080"))))
    yield made
    made.kernel.close()


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that iptables-legacy-restore was given since."""
    run, given = process.run, list[str]()

    def noted(argv: list[str], *, stdin: bytes, **options: Any) -> bytes:
        given.append(stdin.decode())
        return run(argv, stdin=stdin, **options)

    monkeypatch.setattr(legacy, "run", noted)
    return given


def grant_more(host: Host) -> None:
    """One container's chain changes, by rules of TCP and UDP."""
    more = host.with_workloads(host.workload(0), host.workload(1, allow(1, "8080"), allow(1, "53-60", "udp")))
    host.become(replace(more, mutual_tls=host.state.mutual_tls))


@pytest.mark.parametrize("mode", [Mode.NONE, Mode.STRICT])
def test_one_right_more_starts_no_tool_where_the_library_is_reliable(host: Host, restored: list[str], mode: Mode) -> None:
    host.become(replace(host.state, mutual_tls=MODES[mode]))
    restored.clear()
    grant_more(host)
    assert not host.left_to_do(), str(host.left_to_do())
    assert bool(restored) is not python_iptables_trial.passed()


@pytest.mark.parametrize("tunnels", [False, True])
def test_each_kind_of_rule_in_a_containers_chain_is_one_that_the_library_writes(tunnels: bool) -> None:
    rights = frozenset({allow(1, "8080"), allow(1, "53-60", "udp"), allow(2, "1-65535"), Allow(0, "tcp", 80, 80, "acme/*/*")})
    (rules,) = of_container(FIRST, rights, tunnels=tunnels).values()
    assert [rule for rule in rules if not python_iptables.can_write(rule)] == []
    tried = [rule for rules in python_iptables_trial.CHAINS.values() for rule in rules]
    assert any("connlimit" in rule for rule in tried)


def test_a_library_that_is_not_reliable_is_not_used(host: Host, restored: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_iptables_trial, "passed", lambda: False)
    monkeypatch.delattr(python_iptables, "write")
    grant_more(host)
    assert not host.left_to_do(), str(host.left_to_do())
    assert len(restored) == 1


@pytest.mark.parametrize("error", [iptc.IPTCError("busy"), iptc.XTablesError("udp: no such parameter dport"), ValueError("?")])
@pytest.mark.parametrize("where", ["refresh", "commit"])
def test_what_the_library_refuses_for_whatever_reason_is_done_by_the_tool(
    host: Host, restored: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    def fails(_table: object) -> None:
        raise error

    monkeypatch.setattr(python_iptables_trial, "passed", lambda: True)
    monkeypatch.setattr(iptc.Table, where, fails)
    grant_more(host)
    assert not host.left_to_do(), str(host.left_to_do())
    assert len(restored) == 1


@pytest.mark.parametrize(
    ("written", "instead"), [("--dport 53:60", "--dport 53"), (" -g ", " -j "), ("0x12/0xffff", "0x12/0xff")]
)
def test_a_library_that_writes_anything_else_than_it_was_asked_for_is_found_out(
    monkeypatch: pytest.MonkeyPatch, written: str, instead: str
) -> None:
    wanted = {
        key: tuple(rule.replace(written, instead) for rule in rules) for key, rules in python_iptables_trial.CHAINS.items()
    }
    monkeypatch.setattr(python_iptables, "write", lambda _chains, _jumps: restore_by_tool(wanted))
    thread = NamespaceThread(name="trial")
    assert not thread.call(python_iptables_trial.trial)
    wanted = dict(python_iptables_trial.CHAINS)
    assert thread.call(python_iptables_trial.trial)
    thread.close()


def restore_by_tool(chains: Mapping[ChainKey, tuple[str, ...]]) -> None:
    text = restore_text(family=4, chains=Delta(chains, {}, {}, {}), jumps=Delta(python_iptables_trial.JUMPS, {}, {}, {}))
    LegacyFirewall().restore(text, family=4)


def test_the_library_of_this_host_is_judged_the_same_in_a_process_of_its_own() -> None:
    thread = NamespaceThread(name="trial")
    try:
        here = thread.call(python_iptables_trial.trial)
    except HostRefused:
        here = False
    thread.close()
    assert python_iptables_trial.passed() is here


def test_a_jump_that_was_moved_is_put_back_in_process(host: Host) -> None:
    host.netns.run("iptables-legacy", "-I", "FORWARD", "1", "-j", "ACCEPT")
    host.become(host.state)
    assert not host.left_to_do(), str(host.left_to_do())
    assert host.netns.run("iptables-legacy", "-S", "FORWARD").splitlines()[1:] == [
        "-A FORWARD -j CELLNET-FORWARD",
        "-A FORWARD -j ACCEPT",
    ]


@pytest.mark.parametrize("in_process", [True, False])
def test_a_lock_that_another_program_holds_is_reported_and_nothing_is_changed(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: bool
) -> None:
    monkeypatch.setattr(python_iptables_trial, "passed", lambda: in_process)
    before = host.netns.run("iptables-legacy", "-S")
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(HostRefused, match="another program has held the xtables lock") as refused:
            host.become(host.with_workloads(host.workload(0), host.workload(1, allow(1, "9090"))))
    assert str(tmp_path / "lock") in refused.value.hint
    assert host.netns.run("iptables-legacy", "-S") == before


def test_the_lock_is_where_the_tools_environment_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    assert LegacyFirewall().lock == tmp_path / "lock"
    monkeypatch.delenv("XTABLES_LOCKFILE")
    assert LegacyFirewall().lock == Path("/run/xtables.lock")


def test_rules_that_others_add_meanwhile_stay(netns: Callable[[str], Netns]) -> None:
    host = make_host(netns, containers=2, firewall=LegacyFirewall())
    few, many = host.workload(1), host.workload(1, allow(1, "8080"))
    host.become(host.with_workloads(host.workload(0), few))
    script = "for i in $(seq 1 60); do iptables-legacy -w -A INPUT -s 192.0.2.$i -j DROP || exit 1; done"
    rival = host.netns.start("sh", "-c", script, stderr=subprocess.DEVNULL)
    rounds = 0
    while rival.poll() is None:
        host.become(host.with_workloads(host.workload(0), replace(few, allows=many.allows if rounds % 2 else frozenset())))
        rounds += 1
    assert rival.returncode == 0
    assert rounds
    assert host.netns.run("iptables-legacy", "-S", "INPUT").count("-s 192.0.2.") == 60
    host.kernel.close()


def test_a_tool_that_waits_for_the_lock_does_not_outlive_the_process_that_started_it(netns: Callable[[str], Netns]) -> None:
    """Else it would write, sooner or later, what the next agent has found not to be there."""
    host = make_host(netns, containers=0, firewall=LegacyFirewall())
    inside = [NamespaceId.of(host.netns.path)]

    def waits() -> bool:
        return any("ip6tables-legacy-restore" in each.command for each in processes.in_namespaces(inside))

    with (
        LegacyFirewall().lock.open("a") as held,
        fork_server() as bearing,
        closing(bearing.fork(ApplyState(host.netns.path, Backend.LEGACY, EMPTY))) as one,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        one.go(killed_before=None, with_tools=False)
        eventually(waits)
        end = os.pidfd_open(one.pid)
        signal.pidfd_send_signal(end, signal.SIGKILL)
        assert select.select([end], [], [], PATIENCE)[0]
        os.close(end)
        fcntl.flock(held, fcntl.LOCK_UN)
        eventually(lambda: not waits())
        assert not host.read(compile_tables(EMPTY)).chains
    host.kernel.close()
