"""`cellnet` from another mount namespace than the agent's, as `ip netns exec` and `unshare -m` make one."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import children
from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach
from tests.testlib.netns import Netns
from tests.testlib.node import Connected
from tests.testlib.patience import eventually

MakeNetns = Callable[[str], Netns]
SWEEPS = 2.5  # seconds: twice as long as the agent takes to notice a lost owner, and more
SHOW_KEY = 'openssl ec -in "$CF_INSTANCE_KEY" -noout 2>&1 && openssl x509 -in "$CF_INSTANCE_CERT" -noout -ext subjectAltName'


def elsewhere(cell: CellUnderTest, script: str, *arguments: str) -> str:
    """Run a script in a mount namespace that has nothing of what the agent mounts; what it prints."""
    hide = 'for path in $(tac /proc/self/mountinfo | cut -d" " -f5 | grep "^$CELLNET_ROOT/run/"); do umount "$path"; done\n'
    words = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", hide + script, "script", *arguments]
    done = cell.lab.run(*words)
    assert done.code == 0, done.out + done.err
    return done.out


def test_exec_finds_namespace_and_identity(cell: CellUnderTest, attach: Attach) -> None:
    web = attach("acme/shop/web")
    said = elsewhere(cell, "test ! -s $CELLNET_ROOT/run/cellnet/netns/web; cellnet exec web -- sh -c '" + SHOW_KEY + "'")
    assert f"IP Address:{web.address}" in said
    assert f"inet {web.address}/32" in elsewhere(cell, "cellnet exec web -- ip -o addr show dev eth0")


def test_run_finds_its_identity_and_is_reached(cell: CellUnderTest) -> None:
    said = elsewhere(cell, "cellnet run --app acme/shop/web -- sh -c '" + SHOW_KEY + "; ip -o addr show dev eth0'")
    assert "URI:spiffe://cell.internal/org/acme/space/shop/app/web" in said
    assert "inet 10.255.1." in said
    assert cell.attachments() == []


def test_everything_works_from_ip_netns_exec(cell: CellUnderTest, netns: MakeNetns) -> None:
    """A namespace of ours takes the part of the one of an operator's shell."""
    desk, place = netns("desk"), netns("web")
    work = ["ip", "netns", "exec", desk.name, "cellnet"]

    def cellnet(*words: str) -> str:
        done = cell.lab.run(*work, *words)
        assert done.code == 0, done.out + done.err
        return done.out

    cellnet("attach", "--app", "acme/shop/web", "--name", "web", "--netns", str(place.path))
    assert cellnet("ps").splitlines()[1].startswith("web ")
    assert "IP Address:10.255.1." in cellnet("exec", "web", "--", "sh", "-c", SHOW_KEY)
    assert "URI:spiffe:" in cellnet("run", "--app", "acme/shop/api", "--", "sh", "-c", SHOW_KEY)
    cellnet("detach", "web")
    assert cell.attachments() == []


@contextmanager
def own_mounts(cell: CellUnderTest, place: Netns) -> Iterator[tuple[int, str]]:
    """A process in a mount namespace of its own, which alone has the network namespace `place` at a path; its pid, the path."""
    script = 'mount -t tmpfs none /mnt && touch /mnt/net && mount --bind "$0" /mnt/net && echo ready && exec sleep infinity'
    words = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", script, str(place.path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid, "/mnt/net"
    finally:
        process.kill()
        process.wait()


def test_a_path_that_only_the_caller_has_can_be_attached_and_is_followed(cell: CellUnderTest, netns: MakeNetns) -> None:
    place = netns("web")
    with own_mounts(cell, place) as (pid, path):
        place.close()  # from now on the path in there is the only one
        words = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", f"--net={cell.lab.netns}", "--", *children.CELLNET]
        attach = [*words, "attach", "--app", "acme/shop/web", "--name", "web", "--netns", path]
        said = subprocess.run(attach, env=children.environment(cell.lab.root), capture_output=True, text=True, check=False)
        assert said.stdout.startswith("web has 10.255.1."), said.stderr
        time.sleep(SWEEPS)
        assert cell.attachments() == ["web"]
        address = said.stdout.splitlines()[0].rpartition(" ")[2]
        assert cell.host.connect(address, 61443) is Connected
    eventually(lambda: cell.attachments() == [])


def test_no_app_holds_the_namespace_of_another_that_is_detached(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    """Each `cellnet run` has mounts of its own, copies of which would keep namespaces alive."""
    place = netns("web")
    cell.host.run("ip", "link", "add", "witness", "type", "veth", "peer", "name", "inside")
    cell.host.run("ip", "link", "set", "inside", "netns", place.name)
    attach("acme/shop/web", to=place)
    cell.run_app("acme/shop/api")
    cell.client.delete("/v1/attachments/web")
    place.close()
    eventually(lambda: "witness" not in cell.host.run("ls", "/proc/sys/net/ipv4/conf"), seconds=5)


@pytest.mark.parametrize("path", ["netns/web", "./netns/web", "../{folder}/netns/web"])
def test_a_relative_path_is_the_callers(cell: CellUnderTest, netns: MakeNetns, tmp_path: Path, path: str) -> None:
    place = netns("web")
    (tmp_path / "netns").mkdir()
    (tmp_path / "netns/web").symlink_to(place.path)
    script = 'cd "$1" && cellnet attach --app acme/shop/web --netns "$2"'
    assert elsewhere(cell, script, str(tmp_path), path.format(folder=tmp_path.name)).startswith("web has 10.255.1.")
    cell.cellnet("detach", "web")
