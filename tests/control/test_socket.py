"""The control socket's file and the users that may use it, with real users of this machine."""

import grp
import os
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.control.peer import Permission, peer_of, permission_of
from agent.control.socket import listening
from agent.errors import Conflict, HostRefused
from agent.model.peer import Peer
from tests.testlib.fakes.cell import FakeCell, serving

READERS = "daemon"
GID = grp.getgrnam(READERS).gr_gid
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can enter, as /run/cellnet is."""
    with tempfile.TemporaryDirectory(dir="/run") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def ask(path: Path, method: str, address: str, *who: str) -> str:
    """The status code that a process of another user gets."""
    argv = ["setpriv", *who, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--unix-socket", str(path)]
    done = subprocess.run([*argv, f"http://cell{address}"], capture_output=True, text=True, timeout=30)
    return done.stdout if done.returncode == 0 else f"no connection ({done.returncode})"


STRANGER = ("--reuid=65534", "--regid=65534", "--clear-groups")
MAIN_GROUP = ("--reuid=65534", f"--regid={GID}", "--clear-groups")
OTHER_GROUP = ("--reuid=65534", "--regid=65534", f"--groups={GID}")


def test_the_group_may_read_and_only_root_may_change(folder: Path) -> None:
    with serving(FakeCell(), folder / "agent.sock", group=READERS) as path:
        for who in (MAIN_GROUP, OTHER_GROUP):
            assert ask(path, "GET", "/v1/status", *who) == "200"
            assert ask(path, "DELETE", "/v1/attachments/w", *who) == "403"
            assert ask(path, "POST", "/v1/sync", *who) == "403"
        assert ask(path, "DELETE", "/v1/attachments/w") == "200"
        assert ask(path, "GET", "/v1/status", *STRANGER) == "no connection (7)"


def test_a_stranger_is_refused_even_where_the_file_lets_them_in(folder: Path) -> None:
    with serving(FakeCell(), folder / "agent.sock", group=READERS) as path:
        path.chmod(0o666)
        assert ask(path, "GET", "/v1/status", *STRANGER) == "403"
        assert ask(path, "GET", "/v1/status", *OTHER_GROUP) == "200"


CROWD = """
import socket, sys
def connected():
    made = socket.socket(socket.AF_UNIX)
    made.connect(sys.argv[1])
    return made
def answer(asked):
    asked.sendall(b"GET /v1/status HTTP/1.1\\r\\nHost: cell\\r\\n\\r\\n")
    return asked.recv(1000).split()[1].decode()
crowd = [connected() for _ in range(64)]
print(answer(crowd[-1]), connected().recv(1000).split()[1].decode(), flush=True)
sys.stdin.readline()
for each in crowd:
    each.close()
print(flush=True)
sys.stdin.readline()
print(answer(connected()))
"""


def test_too_many_connections_of_one_user_are_refused_and_keep_no_other_out(folder: Path) -> None:
    with serving(FakeCell(), folder / "agent.sock", group=READERS) as path:
        argv = ["setpriv", *MAIN_GROUP, "/usr/bin/python3", "-c", CROWD, str(path)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
            assert crowd.stdout is not None
            assert crowd.stdin is not None
            assert crowd.stdout.readline() == "200 503\n"
            assert ask(path, "GET", "/v1/status", *MAIN_GROUP) != "200"
            another = ("--reuid=65533", f"--regid={GID}", "--clear-groups")
            assert ask(path, "GET", "/v1/status", *another) == ask(path, "GET", "/v1/status") == "200"
            crowd.stdin.write("\n")
            crowd.stdin.flush()
            assert crowd.stdout.readline() == "\n"
            while ask(path, "GET", "/v1/status", *MAIN_GROUP) != "200":
                time.sleep(0.05)  # until the server has noticed
            assert crowd.communicate("\n")[0] == "200\n"


def test_many_groups_do_not_hide_the_one_that_counts() -> None:
    class Crowded:
        def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
            raise OSError(34, "too many groups")

    account = subprocess.run(["id", "-u", READERS], capture_output=True, text=True, check=True).stdout
    assert permission_of(Crowded(), Peer(1, int(account), NOBODY), readers=GID) is Permission.READ
    assert permission_of(Crowded(), Peer(1, NOBODY, NOBODY), readers=GID) is Permission.NONE


def test_without_the_group_only_root_gets_in(folder: Path) -> None:
    with serving(FakeCell(), folder / "agent.sock", group="no-such-group") as path:
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, 0, 0)
        path.chmod(0o666)
        assert ask(path, "GET", "/v1/status", *OTHER_GROUP) == "403"


def test_the_file_has_its_mode_and_group_and_goes_at_the_end(folder: Path) -> None:
    path = folder / "made" / "agent.sock"
    with listening(path, readers=GID):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, 0, GID)
        assert os.listdir(path.parent) == ["agent.sock"]
    assert not path.exists()


def test_what_is_known_of_the_peers_is_given_back_at_the_end(folder: Path) -> None:
    for _ in range(3):
        with serving(FakeCell(), folder / "agent.sock") as path:
            before = _descriptors_of_processes()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert _descriptors_of_processes() <= before


def _descriptors_of_processes() -> int:
    links = (Path(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd"))
    return sum("pidfd" in os.readlink(each) for each in links if each.is_symlink())


def test_the_file_of_a_dead_agent_is_replaced_without_a_moment_in_between(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    before = path.stat().st_ino
    with listening(path, readers=None):
        assert path.stat().st_ino != before
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))


def test_a_second_agent_at_the_same_place_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with listening(path, readers=None) as first:
        with pytest.raises(Conflict, match="another agent answers"), listening(path, readers=None):
            pass
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            first.accept()[0].close()


def test_the_file_of_a_later_agent_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with listening(path, readers=None):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_path_longer_than_a_socket_address_works(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "agent.sock"
    with listening(path, readers=None):
        assert stat.S_ISSOCK(path.stat().st_mode)


def test_a_folder_in_place_of_the_socket_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.mkdir()
    with pytest.raises(HostRefused, match=r"agent\.sock"), listening(path, readers=None):
        pass
    assert os.listdir(tmp_path) == ["agent.sock"]


def test_the_peers_identity_comes_from_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
