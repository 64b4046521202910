"""`run --user`, `--env` and `--workdir`: what the command is and has, with real users; the agent behind it is on memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model.key_owner import KeyOwner
from host.process import start_time
from lab.children import opened
from tests.testlib.fakes.cell import FakeCell, serving
from tests.testlib.patience import eventually

WHO = 'echo $(id -u) $(id -g) $(id -G) $HOME $USER $LOGNAME; grep -E "^Cap(Eff|Prm|Amb)" /proc/self/status'
NO_RIGHTS = {"CapPrm:": 0, "CapEff:": 0, "CapAmb:": 0}


class Caller:
    """`cellnet run`, on a host whose users are root, `app` (1234, in groups app, audio and video) and `7` (4321).

    The test's folder, which only root can enter, is `/mnt` there.
    """

    def __init__(self, folder: Path, cell: FakeCell) -> None:
        self.cell, self._folder = cell, folder
        (folder / "passwd").write_text(
            "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/srv/app:/bin/sh\n7:x:4321:1234::/:/bin/sh\n"
        )
        (folder / "group").write_text("root:x:0:\napp:x:1234:\naudio:x:29:app\nvideo:x:44:app,x\ncellnet:x:994:\n")
        folder.chmod(0o755)

    def argv(self, *words: str) -> list[str]:
        places = {"passwd": "/etc/passwd", "group": "/etc/group", ".": "/mnt"}
        binds = "; ".join(f"mount --bind {self._folder / name} {place}" for name, place in places.items())
        run = [sys.executable, "-m", "agent", "--root", str(self._folder), "run", "--app", "acme/shop/web", *words]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{binds}; exec "$@"', "sh", *run]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=60, check=False)

    def who(self, user: str) -> tuple[str, dict[str, int]]:
        """Ids and names of the command, and its capabilities."""
        done = self.run("--user", user, "--", "sh", "-c", WHO)
        assert done.stderr == ""
        ids, *rights = done.stdout.splitlines()
        return ids, {line.split()[0]: int(line.split()[1], 16) for line in rights}


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    cell = FakeCell()
    with serving(cell, tmp_path / "run/cellnet/agent.sock"):
        yield Caller(tmp_path, cell)


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("app", "1234 1234 1234 29 44 /srv/app app app"),
        ("1234", "1234 1234 1234 29 44 /srv/app app app"),
        ("app:video", "1234 44 44 /srv/app app app"),
        ("1234:7777", "1234 7777 7777 /srv/app app app"),
        ("5555:audio", "5555 29 29 / 5555 5555"),
        ("7", "4321 1234 1234 / 7 7"),
    ],
)
def test_a_user_has_its_own_groups_names_and_no_capabilities(caller: Caller, user: str, ids: str) -> None:
    assert caller.who(user) == (ids, NO_RIGHTS)
    assert caller.cell.key_owners["web"] == KeyOwner(int(ids.split()[0]))


def test_root_by_name_keeps_its_rights(caller: Caller) -> None:
    ids, rights = caller.who("root")
    assert ids == "0 0 0 /root root root"
    assert rights["CapEff:"]
    assert caller.cell.key_owners["web"] == KeyOwner(0)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nosuch", "there is no user 'nosuch' on this host; hint: see 'getent passwd', or give UID:GID"),
        ("5555", "there is no user with uid 5555 on this host; hint: name its group, too: --user 5555:GID"),
        ("app:nosuch", "there is no group 'nosuch' on this host; hint: see 'getent group', or give its number"),
        ("app:", "there is no group '' on this host; hint: see 'getent group', or give its number"),
        ("", "there is no user '' on this host; hint: see 'getent passwd', or give UID:GID"),
        ("4294967295:0", "4294967295 is not the id of a user or group; hint: 0 to 4294967294 is possible"),
        ("99999999999999999999:0", "99999999999999999999 is not the id of a user or group; hint: 0 to 4294967294 is possible"),
    ],
)
def test_a_user_that_there_is_not_is_wrong_usage_and_nothing_is_attached(caller: Caller, user: str, message: str) -> None:
    done = caller.run("--user", user, "--", "true")
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")
    assert caller.cell.peers == []


def test_variables_are_added_and_win_over_all_others(caller: Caller) -> None:
    options = ("-u", "app", "-e", "A=1=2", "--env", "HOME=/elsewhere", "--env=EMPTY=", "-e", "A=3", "-e", "CF_INSTANCE_INDEX=x")
    shown = caller.run(*options, "--", "env").stdout.splitlines()
    assert {"A=3", "HOME=/elsewhere", "EMPTY=", "CF_INSTANCE_INDEX=x", "USER=app", "CF_INSTANCE_INTERNAL_IP=10.255.1.2"} <= set(
        shown
    )


@pytest.mark.parametrize("text", ["A", "=1", ""])
def test_a_variable_without_name_or_value_is_wrong_usage(caller: Caller, text: str) -> None:
    done = caller.run("--env", text, "--", "true")
    what = f"error: --env {text}: expected KEY=VALUE; hint: CMD has all variables of this shell without it\n"
    assert (done.returncode, done.stderr) == (2, what)


def test_the_command_begins_in_its_folder_with_its_users_rights(caller: Caller, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    os.chown(tmp_path / "closed", 1234, 1234)
    assert caller.run("--user", "app", "--workdir", "/mnt/closed", "--", "pwd").stdout == "/mnt/closed\n"
    assert caller.run("-w", "/", "--", "pwd").stdout == "/\n"
    refused = caller.run("--user", "5555:7", "--workdir", "/mnt/closed", "--", "pwd")
    assert (refused.returncode, refused.stderr) == (126, "error: cannot run pwd: cannot enter /mnt/closed: Permission denied\n")
    missing = caller.run("--workdir", "/no/such", "--", "pwd")
    assert (missing.returncode, missing.stderr) == (
        126,
        "error: cannot run pwd: cannot enter /no/such: No such file or directory\n",
    )
    assert caller.cell.views == {}


def test_a_program_that_the_user_may_not_run_is_126(caller: Caller, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    assert caller.run("--", "/mnt/program").returncode == 0
    done = caller.run("--user", "app", "--", "/mnt/program")
    assert (done.returncode, done.stderr) == (126, "error: cannot run /mnt/program: Permission denied\n")


def test_kill_9_of_run_kills_the_command_of_another_user(caller: Caller) -> None:
    """The kernel forgets whom to end us with when a process changes its user."""
    argv = caller.argv("--user", "app", "--", "sh", "-c", "echo $$; exec sleep 1000")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        child = int(opened(running.stdout).readline())
        running.kill()
        running.wait()
        eventually(lambda: start_time(child) is None)
