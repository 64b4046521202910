"""containerd beside podman on one host, Docker, systemd-nspawn: the real ones, and policies hold for them in strict mode."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.engines.docker_and_containerd import Ctr, Docker
from tests.testlib.engines.podman import Podman
from tests.testlib.machines.boot import PROPAGATED
from tests.testlib.node import Node
from tests.testlib.patience import eventually

SERVER = ("/usr/bin/python3", "-m", "http.server", "8080")
CALL = ("python3", "-c", "import urllib.request as r; print(r.urlopen('http://api:8080/', timeout=5).status)")


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


def calls(cell: CellUnderTest, name: str) -> bool:
    """Whether a call of an attachment to api, by its name, gets an answer."""
    return cell.cellnet("exec", name, "--", *CALL, code=None).out == "200\n"


@pytest.fixture
def ctr(cell: CellUnderTest, podman: Podman) -> Iterator[Ctr]:
    with Ctr(cell, podman).started() as made:
        yield made


@pytest.fixture
def docker(cell: CellUnderTest, podman: Podman) -> Iterator[Docker]:
    with Docker(cell, podman).started() as made:
        yield made


def test_containers_of_two_engines_on_one_host_call_each_other_by_policy_and_go_one_by_one(
    cell: CellUnderTest, podman: Podman, ctr: Ctr
) -> None:
    assert "nothing says which app 'default-other' is" in ctr.container("other", code=1).err
    ctr.remove("other")
    cell.cellnet("reserve", "default-web", "--app=acme/shop/web")
    ctr.container("web")
    podman.container("api", "acme/shop/api", command=SERVER)
    found = cell.client.get("/v1/attachments/default-web")
    address = found.text("address")
    web = Node(cell.lab.root / "run/cellnet/netns/default-web", address=IPv4Address(address))
    assert address in web.run("ip", "addr", "show", "eth0")
    assert not calls(cell, "default-web")
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: calls(cell, "default-web"))
    eventually(lambda: address in podman("logs", "api").err)
    podman.remove("api")
    assert cell.attachments() == ["default-web"]
    web.close()
    ctr.remove("web")
    eventually(lambda: cell.attachments() == [])


def test_a_container_of_docker_joins_one_that_is_attached_and_has_its_environment_and_certificates(
    cell: CellUnderTest, podman: Podman, docker: Docker
) -> None:
    podman.container("api", "acme/shop/api", command=SERVER)
    docker.container("pause", options=["--network=none"])
    cell.cellnet("attach", "--app=acme/shop/web", "--name=web", "--netns", f"/proc/{docker.pid('pause')}/ns/net")
    run = cell.lab.root / "run/cellnet"
    folders = [f"--volume={run / 'identity' / each}:{run / 'identity' / each}:ro" for each in ("web", "_trust")]
    resolver = f"--volume={run / 'resolv/web'}:/etc/resolv.conf:ro"
    docker.container("web", options=["--network=container:pause", f"--env-file={run / 'env/web'}", resolver, *folders])
    inside = docker(
        "exec", "web", "sh", "-euc", "echo $CF_INSTANCE_INTERNAL_IP; cat /etc/resolv.conf; head -1 $CF_INSTANCE_KEY"
    ).out
    address, *lines = inside.splitlines()
    assert address == cell.client.get("/v1/attachments/web").text("address")
    assert "nameserver 169.254.0.2" in lines
    assert lines[-1].startswith("-----BEGIN")
    call = ("exec", "web", *CALL)
    assert docker(*call, code=None).code != 0
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: docker(*call, code=None).out == "200\n")
    docker("rm", "--force", "web", "pause")
    eventually(lambda: cell.attachments() == ["api"])


def test_a_container_of_systemd_nspawn_joins_a_held_namespace(cell: CellUnderTest, podman: Podman) -> None:
    podman.container("api", "acme/shop/api", command=SERVER)
    cell.cellnet("hold", "web", "--app=acme/shop/web")
    run, name = cell.lab.root / "run/cellnet", f"web-{os.getpid()}"
    root = f"--directory={podman.folder / 'rootfs'}"
    words = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe", "--as-pid2", f"--machine={name}", root,
             f"--network-namespace-path={run / 'held/web'}", f"--bind-ro={run / 'resolv/web'}:/etc/resolv.conf",
             "--bind-ro=/usr", "--resolv-conf=off", "--timezone=off", "--link-journal=no")  # fmt: skip

    def called() -> str:
        return subprocess.run([*words, *CALL], stdout=subprocess.PIPE, text=True, check=False).stdout

    assert called() == ""
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: called() == "200\n")
    address = cell.client.get("/v1/attachments/web").text("address")
    eventually(lambda: address in podman("logs", "api").err)
    assert cell.attachments() == ["api", "web"]
    cell.cellnet("release", "web")
    assert cell.attachments() == ["api"]
    with suppress(OSError):
        (PROPAGATED / name).rmdir()  # nspawn leaves it where a container has no file system of its own


def test_dockerd_that_makes_its_own_rules_and_makes_them_anew_leaves_ours_whole(cell: CellUnderTest, podman: Podman) -> None:
    podman.container("api", "acme/shop/api", command=SERVER)
    for name in ("web", "other"):
        podman.container(name, f"acme/shop/{name}")
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    docker = Docker(cell, podman)
    for _ in range(2):
        with docker.started(network=True):
            eventually(lambda: "-A FORWARD -j DOCKER-USER" in cell.host.run("iptables", "-S", "FORWARD"))
            eventually(lambda: calls(cell, "web"))
            assert not calls(cell, "other")
    first = "-A FORWARD -j CELLNET-FORWARD"
    eventually(lambda: cell.host.run("iptables", "-S", "FORWARD").splitlines()[1] == first)
    assert cell.wait_well().flag("ok")
