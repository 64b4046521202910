"""A command's /etc/resolv.conf is its container's, on every kind of host, and the host's stays as it is."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli.containers.resolver_mounts import own_nsswitch
from lab.children import opened
from tests.testlib.fakes.cell import FakeCell, serving
from tests.testlib.patience import eventually

OURS = "nameserver 169.254.0.2\nsearch shop.acme.cell.internal acme.cell.internal\noptions ndots:2 edns0\n"
HOSTS = "nameserver 192.0.2.53\n"
AFTER_DHCP = "nameserver 192.0.2.54\n"


def test_hosts_come_from_files_and_dns_alone_and_all_else_stays() -> None:
    debian = "passwd:  files systemd\nhosts:   files mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns mymachines\n"
    assert own_nsswitch(debian) == "passwd:  files systemd\nhosts: files dns\n"
    assert own_nsswitch("hosts:files resolve # no dns\nnetworks: nis\n") == "hosts: files dns # no dns\nnetworks: nis\n"
    assert own_nsswitch("hosts: files [SUCCESS=return] myhostname dns") == "hosts: files [SUCCESS=return] myhostname dns"
    for same in ("passwd: files\n", "hosts:          files dns\n", "  hosts:files dns#x\n", ""):
        assert own_nsswitch(same) == same
    assert own_nsswitch("hosts: resolve [!UNAVAIL=return]") == "hosts: dns"


@dataclass
class Host:
    """A host whose /etc is `etc`, for commands that are started in its mount namespace."""

    root: Path
    etc: Path
    options: str = ""

    def argv(self, *words: str) -> list[str]:
        """`cellnet WORDS` there."""
        script = (
            f'mount --bind {self.etc} /etc; [ -z "{self.options}" ] || mount -o {self.options},remount,bind /etc; exec "$@"'
        )
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
        return [*inside, sys.executable, "-m", "agent", "--root", str(self.root), *words]

    def shows(self, *words: str) -> str:
        """What `cellnet WORDS` prints."""
        done = subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def content(self) -> dict[str, str]:
        """Of its /etc: names, and what they are."""
        return {each.name: os.readlink(each) if each.is_symlink() else each.read_text() if each.is_file() else ""
                for each in self.etc.iterdir() if each.name in ("resolv.conf", "nsswitch.conf", "stub")}  # fmt: skip


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[FakeCell]:
    (tmp_path / "pins").mkdir()
    cell = FakeCell(folder=tmp_path / "pins")
    with serving(cell, tmp_path / "run/cellnet/agent.sock"):
        yield cell
    for view in cell.views.values():
        subprocess.run(["umount", str(view.pin)], check=False)


def file(etc: Path) -> None:
    (etc / "resolv.conf").write_text(HOSTS)


def link(etc: Path) -> None:
    (etc / "stub").write_text(HOSTS)
    (etc / "resolv.conf").symlink_to("stub")


def dangling(etc: Path) -> None:
    (etc / "resolv.conf").symlink_to("../run/not/there")


def missing(etc: Path) -> None:
    del etc


@pytest.fixture
def host(cell: FakeCell, tmp_path: Path) -> Host:
    del cell
    etc = tmp_path / "etc-of-the-host"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nowhere:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "nsswitch.conf").write_text("hosts: files resolve [!UNAVAIL=return] dns\n")
    return Host(tmp_path, etc)


WEB = ("run", "--app", "acme/shop/web")
LOOK = ("sh", "-c", "cat /etc/resolv.conf /etc/nsswitch.conf; cat /etc/passwd >/dev/null")


@pytest.mark.parametrize("options", ["", "ro"])
@pytest.mark.parametrize("kind", [file, link, dangling, missing])
def test_a_command_finds_its_own_and_the_host_keeps_its(host: Host, kind: Callable[[Path], None], options: str) -> None:
    kind(host.etc)
    host.options = options
    before = host.content()
    assert host.shows(*WEB, "--", *LOOK) == f"{OURS}hosts: files dns\n"
    assert host.content() == before


@pytest.mark.parametrize(("kind", "is_kept"), [(file, True), (link, True), (dangling, True), (missing, False)])
def test_what_a_command_writes_beside_it_is_the_hosts_unless_that_has_none(
    host: Host, kind: Callable[[Path], None], is_kept: bool
) -> None:
    kind(host.etc)
    assert host.shows(*WEB, "--", "sh", "-c", "echo mine >/etc/app.conf; cat /etc/app.conf") == "mine\n"
    assert (host.etc / "app.conf").exists() == is_kept


def test_it_is_readable_for_the_user_that_the_command_runs_as(host: Host) -> None:
    file(host.etc)
    assert host.shows(*WEB, "--user", "nobody", "--", "cat", "/etc/resolv.conf") == OURS


def test_exec_has_it_too(host: Host, cell: FakeCell) -> None:
    file(host.etc)
    with subprocess.Popen(host.argv(*WEB, "--name", "w", "--", "cat"), stdin=subprocess.PIPE) as running:
        eventually(lambda: "w" in cell.views)
        assert host.shows("exec", "w", "--", *LOOK) == f"{OURS}hosts: files dns\n"
        opened(running.stdin).close()


@pytest.mark.parametrize("kind", [file, link])
def test_a_command_keeps_its_own_when_the_host_replaces_its_files(host: Host, kind: Callable[[Path], None]) -> None:
    kind(host.etc)
    script = 'while read -r line; do cat /etc/resolv.conf /etc/nsswitch.conf | tr "\\n" " "; echo; done'
    running = subprocess.Popen(
        host.argv(*WEB, "--", "sh", "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def look() -> str:
        opened(running.stdin).write("\n")
        opened(running.stdin).flush()
        return opened(running.stdout).readline()

    wanted = f"{OURS}hosts: files dns\n".replace("\n", " ") + "\n"
    assert look() == wanted
    for name, content in (("resolv.conf", AFTER_DHCP), ("nsswitch.conf", "hosts: files mdns dns\n"), ("stub", AFTER_DHCP)):
        (host.etc / "new").write_text(content)
        (host.etc / "new").rename(host.etc / name)
        eventually(lambda: look() == wanted)
    (host.etc / "resolv.conf").unlink()
    (host.etc / "resolv.conf").write_text(AFTER_DHCP)
    eventually(lambda: look() == wanted)
    assert (host.etc / "resolv.conf").read_text() == AFTER_DHCP
    assert running.communicate()[0] == ""
    assert running.returncode == 0


def test_a_name_service_cache_of_the_host_is_out_of_sight(host: Host) -> None:
    file(host.etc)
    cache = Path("/run/nscd")
    made = not cache.exists()
    cache.mkdir(exist_ok=True)
    (cache / "seen-by-the-host").touch()
    try:
        assert host.shows(*WEB, "--", "ls", str(cache)) == ""
    finally:
        (cache / "seen-by-the-host").unlink()
        if made:
            cache.rmdir()
