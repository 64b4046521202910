"""`run` and `exec` with real processes and namespaces; the agent behind them is on memory and pins what it is given."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import HostRefused
from host.process import start_time
from lab.children import opened
from tests.testlib.fakes.cell import FakeCell, serving
from tests.testlib.patience import eventually
from tests.testlib.users import NOBODY

CELLNET = (sys.executable, "-m", "agent")
WEB = ("run", "--app", "acme/shop/web")


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[FakeCell]:
    pins = tmp_path / "pins"
    pins.mkdir()
    cell = FakeCell(folder=pins)
    with serving(cell, tmp_path / "run/cellnet/agent.sock"):
        yield cell
    for view in cell.views.values():
        subprocess.run(["umount", str(view.pin)], check=False)


@pytest.fixture
def argv(tmp_path: Path) -> Callable[..., list[str]]:
    return lambda *arguments: [*CELLNET, "--root", str(tmp_path), *arguments]


Argv = Callable[..., list[str]]


def done(argv: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def test_a_command_runs_in_a_namespace_of_its_own_with_its_environment(cell: FakeCell, argv: Argv) -> None:
    script = "readlink /proc/self/ns/net /proc/self/ns/mnt; echo $CF_INSTANCE_INTERNAL_IP $CF_INSTANCE_INDEX $KEPT"
    ran = done(argv(*WEB, "--instance", "4", "--", "sh", "-c", script), env={**os.environ, "KEPT": "kept"})
    assert ran.stderr == ""
    net, mnt, words = ran.stdout.splitlines()
    assert net != os.readlink("/proc/self/ns/net")
    assert mnt != os.readlink("/proc/self/ns/mnt")
    assert words == "10.255.1.2 4 kept"


def test_the_attachment_is_there_while_the_command_lives_and_gone_with_it(cell: FakeCell, argv: Argv) -> None:
    with subprocess.Popen(argv(*WEB, "--name", "w", "--port", "80", "--", "cat"), stdin=subprocess.PIPE) as running:
        eventually(lambda: "w" in cell.views)
        assert cell.owners["w"] == running.pid
        assert cell.views["w"].ports == (80,)
        assert cell.detached == []
        opened(running.stdin).close()
        assert running.wait() == 0
    assert (cell.views, cell.detached) == ({}, ["w"])


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_the_exit_code_is_the_commands(cell: FakeCell, argv: Argv, script: str, code: int) -> None:
    assert done(argv(*WEB, "--", "sh", "-c", script)).returncode == code
    assert cell.views == {}


def test_a_command_that_does_not_exist_is_127_and_leaves_nothing(cell: FakeCell, argv: Argv) -> None:
    ran = done(argv(*WEB, "--", "no-such-command"))
    assert (ran.returncode, ran.stdout) == (127, "")
    assert ran.stderr == "error: cannot run no-such-command: No such file or directory\n"
    assert (cell.views, cell.detached) == ({}, ["web"])


def test_a_command_that_may_not_be_executed_is_126(cell: FakeCell, argv: Argv, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    ran = done(argv(*WEB, "--", str(tmp_path / "plain")))
    assert ran.returncode == 126
    assert "Permission denied" in ran.stderr
    assert cell.views == {}


def test_a_refused_attach_runs_nothing(cell: FakeCell, argv: Argv, tmp_path: Path) -> None:
    cell.fails = HostRefused("no address left", hint="detach something")
    ran = done(argv(*WEB, "--", "touch", str(tmp_path / "ran")))
    assert (ran.returncode, ran.stderr) == (1, "error: no address left; hint: detach something\n")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(cell: FakeCell, argv: Argv, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(argv(*WEB, "--", "sh", "-c", script), stdout=subprocess.PIPE, text=True) as running:
        assert opened(running.stdout).readline() == "ready\n"
        running.send_signal(number)
        assert opened(running.stdout).read() == "got\n"
        assert running.wait() == 9
    assert cell.views == {}


def test_a_terminals_interrupt_reaches_the_command_once(cell: FakeCell, argv: Argv) -> None:
    script = "trap 'echo got' INT; echo ready; sleep 2 & wait; wait; echo end"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, argv(*WEB, "--", "sh", "-c", script))
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    while b"end" not in seen:
        seen += os.read(terminal, 1000)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert seen.count(b"got") == 1
    assert cell.views == {}


def test_a_terminal_that_hangs_up_ends_the_command(cell: FakeCell, argv: Argv, tmp_path: Path) -> None:
    """The kernel signals the session's leader alone, which we are."""
    script = f"trap 'echo got > {tmp_path}/hangup; exit' HUP; echo ready; while :; do sleep 0.05; done"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, argv(*WEB, "--", "sh", "-c", script))
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert (tmp_path / "hangup").read_text() == "got\n"
    assert cell.views == {}


def test_an_agent_that_hangs_does_not_keep_an_interrupt_from_ending_us(cell: FakeCell, argv: Argv) -> None:
    with subprocess.Popen(argv(*WEB, "--", "cat"), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        eventually(lambda: "web" in cell.views)
        cell.waits = True
        opened(running.stdin).close()
        while running.poll() is None:
            running.send_signal(signal.SIGINT)
            time.sleep(0.1)
        assert running.returncode in (130, -signal.SIGINT)  # the latter where one more came as Python was ending


def test_an_interrupt_while_it_is_attached_kills_the_child_and_runs_nothing(cell: FakeCell, argv: Argv, tmp_path: Path) -> None:
    cell.waits = True
    with subprocess.Popen(argv(*WEB, "--", "touch", str(tmp_path / "ran")), stderr=subprocess.PIPE) as running:
        eventually(lambda: bool(cell.peers))
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    assert [start_time(int(child)) for child in children] == [None]
    assert not (tmp_path / "ran").exists()


def test_kill_9_of_run_kills_the_command(cell: FakeCell, argv: Argv) -> None:
    with subprocess.Popen(argv(*WEB, "--", "sh", "-c", "echo $$; sleep 1000"), stdout=subprocess.PIPE, text=True) as running:
        child = int(opened(running.stdout).readline())
        running.kill()
        running.wait()
        eventually(lambda: start_time(child) is None)


def test_a_command_gets_the_signal_dispositions_that_other_programs_expect(cell: FakeCell, argv: Argv) -> None:
    shown = done(argv(*WEB, "--", "grep", "^Sig[BI]", "/proc/self/status")).stdout.split()
    assert shown[::2] == ["SigBlk:", "SigIgn:"]
    # 32 and 33 are the C library's own: make's children have them ignored, and no program can change that
    assert [int(mask, 16) & ~(1 << 31 | 1 << 32) for mask in shown[1::2]] == [0, 0]


def test_nohup_holds_for_the_command(cell: FakeCell, argv: Argv) -> None:
    ran = done(["nohup", *argv(*WEB, "--", "grep", "^SigIgn", "/proc/self/status")])
    assert int(ran.stdout.split()[1], 16) & (1 << (signal.SIGHUP - 1))


def test_no_descriptor_of_ours_reaches_the_command(cell: FakeCell, argv: Argv) -> None:
    assert done(argv(*WEB, "--", "ls", "/proc/self/fd")).stdout.split() == ["0", "1", "2", "3"]


def test_it_works_where_the_caller_ignores_its_children(cell: FakeCell, argv: Argv) -> None:
    ran = done(argv(*WEB, "--", "sh", "-c", "exit 5"), preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert ran.returncode == 5


def test_only_root_can_run() -> None:
    ran = done([*NOBODY, *CELLNET, "--root", "/nowhere", *WEB, "--", "true"])
    assert (ran.returncode, ran.stderr) == (1, "error: 'cellnet run' needs root; hint: sudo cellnet run …\n")


def test_exec_enters_the_namespace_with_its_environment(cell: FakeCell, argv: Argv) -> None:
    with subprocess.Popen(argv(*WEB, "--name", "w", "--", "cat"), stdin=subprocess.PIPE) as running:
        eventually(lambda: "w" in cell.views)
        script = "stat -Lc %i /proc/self/ns/net; echo $CF_INSTANCE_INTERNAL_IP"
        entered = done(argv("exec", "w", "--", "sh", "-c", script)).stdout.split()
        assert entered == [str(cell.views["w"].pin.stat().st_ino), "10.255.1.2"]
        assert done(argv("exec", "w", "sh", "-c", "exit 3")).returncode == 3
        assert done(argv("exec", "W", "sh", "-c", "exit 3")).returncode == 3, "an app that was named W is w"
        assert done(argv("exec", "w", "--", "no-such-command")).returncode == 127
        opened(running.stdin).close()
    gone = done(argv("exec", "w", "--", "true"))
    assert (gone.returncode, gone.stderr) == (1, "error: there is no attachment 'w'; hint: see 'cellnet ps'\n")


def test_what_a_command_leaves_in_the_background_is_named(cell: FakeCell, argv: Argv) -> None:
    script = "setsid sleep 600 >/dev/null 2>&1 & echo $!; exit 4"
    ran = done(argv(*WEB, "--", "sh", "-c", script))
    left = int(ran.stdout)
    os.kill(left, signal.SIGKILL)
    what = f"warning: 'web' has ended, but processes of it live on without a network: {left}; hint: end them, and let CMD stay"
    assert (ran.returncode, ran.stderr, cell.views) == (4, f"{what} in the foreground\n", {})


def test_what_ends_together_with_the_command_is_not_named(cell: FakeCell, argv: Argv) -> None:
    ran = done(argv(*WEB, "--", "sh", "-c", "sleep 0.2 >/dev/null 2>&1 & exit 0"))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_sysfs_shows_the_containers_own_links_and_what_is_mounted_below_it(cell: FakeCell, argv: Argv) -> None:
    script = "ls /sys/class/net; ls /sys/fs/cgroup"
    host = done(["sh", "-c", script])
    with subprocess.Popen(argv(*WEB, "--name", "w", "--", "sh", "-c", f"({script}) 2>&1; cat"), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as running:  # fmt: skip
        eventually(lambda: "w" in cell.views)
        inside = done(argv("exec", "w", "--", "sh", "-c", script))
        ran, _ = running.communicate()
    cgroups = os.listdir("/sys/fs/cgroup")
    for shown in (ran, inside.stdout):
        assert sorted(shown.split()) == sorted(["lo", *cgroups])
    assert done(["sh", "-c", script]).stdout == host.stdout, "the host's own is as it was"


def test_run_and_exec_work_from_another_mount_namespace(cell: FakeCell, argv: Argv) -> None:
    """The pin is made after the caller's mount namespace, which gets no mounts from ours, as in `unshare -m`."""
    elsewhere = ["unshare", "--mount", "--propagation", "private", "--"]
    with subprocess.Popen(
        [*elsewhere, "sh", "-c", 'read line; exec "$@"', "sh", *argv("exec", "w", "--", "readlink", "/proc/self/ns/net")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as late:  # fmt: skip
        time.sleep(0.1)
        with subprocess.Popen([*elsewhere, *argv(*WEB, "--name", "w", "--", "cat")], stdin=subprocess.PIPE) as running:
            eventually(lambda: "w" in cell.views)
            assert late.communicate("go\n")[0].strip() == f"net:[{cell.views['w'].pin.stat().st_ino}]"
            opened(running.stdin).close()
            assert running.wait() == 0


def test_the_agents_files_are_found_from_another_mount_namespace_and_stay_live(
    cell: FakeCell, argv: Argv, tmp_path: Path
) -> None:
    identity = tmp_path / "identity"
    identity.mkdir()
    script = 'pwd; cat "$CF_INSTANCE_CERT"; read line; cat "$CF_INSTANCE_CERT" "$CF_SYSTEM_CERT_PATH"/*'
    caller = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'echo here; read line; exec "$@"', "sh",
         *argv(*WEB, "--", "sh", "-c", script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert opened(caller.stdout).readline() == "here\n"
    # the agent's tmpfs comes after the caller's mount namespace, which therefore does not have it
    subprocess.run(["mount", "-t", "tmpfs", "none", str(identity)], check=True)
    try:
        (identity / "web").mkdir()
        (identity / "web/instance.crt").write_text("first\n")
        (identity / "_trust").mkdir()
        (identity / "_trust/ca.crt").write_text("trust\n")
        cell.environment = {
            "CF_INSTANCE_CERT": str(identity / "web/instance.crt"),
            "CF_SYSTEM_CERT_PATH": str(identity / "_trust"),
        }
        opened(caller.stdin).write("go\n")
        opened(caller.stdin).flush()
        assert opened(caller.stdout).readline() == f"{tmp_path}\n"
        assert opened(caller.stdout).readline() == "first\n"
        (identity / "web/new").write_text("second\n")
        os.rename(identity / "web/new", identity / "web/instance.crt")
        (identity / "_trust/12345678.0").write_text("hashed\n")
        assert caller.communicate("go\n")[0] == "second\nhashed\ntrust\n"
        assert caller.returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(identity)], check=True)
    assert os.listdir(identity) == []


def test_a_command_outlives_its_agent_and_keeps_its_exit_code(argv: Argv, tmp_path: Path) -> None:
    with serving(FakeCell(), tmp_path / "run/cellnet/agent.sock"):
        running = subprocess.Popen(
            argv(*WEB, "--", "sh", "-c", "echo ready; read line; exit 6"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert opened(running.stdout).readline() == "ready\n"
    errors = running.communicate("go\n")[1]
    assert running.returncode == 6
    assert errors.startswith("error: 'web' is not detached: no agent answers at ")


def test_many_runs_at_once_get_names_and_codes_of_their_own(cell: FakeCell, argv: Argv) -> None:
    running = [subprocess.Popen(argv(*WEB, "--", "sh", "-c", f"exit {number}")) for number in range(8)]
    assert [each.wait() for each in running] == list(range(8))
    assert cell.views == {}


def test_json_of_a_run_attachment_is_the_lists(cell: FakeCell, argv: Argv) -> None:
    with subprocess.Popen(argv(*WEB, "--", "cat"), stdin=subprocess.PIPE) as running:
        eventually(lambda: "web" in cell.views)
        assert [each["name"] for each in json.loads(done(argv("ps", "--json")).stdout)] == ["web"]
        opened(running.stdin).close()
