"""containerd beside podman on one host, Docker, systemd-nspawn: the real ones, and policies hold for their containers."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.machine_boot import PROPAGATED
from tests.testlib.node import Connected, Node, Refused
from tests.testlib.other_engines import Ctr, Docker
from tests.testlib.patience import eventually
from tests.testlib.podman import Podman

SERVER = ("/usr/bin/python3", "-m", "http.server", "8080")


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
    api = podman.container("api", "acme/shop/api", command=SERVER)
    found = cell.client.get("/v1/attachments/default-web")
    address = found.text("address")
    web = Node(cell.lab.root / "run/cellnet/netns/default-web", address=api.address)
    assert address in web.run("ip", "addr", "show", "eth0")
    assert web.connect(api, 8080) is Refused
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: web.connect(api, 8080) is Connected)
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
    call = (
        "exec",
        "web",
        "python3",
        "-c",
        "import urllib.request as r; print(r.urlopen('http://api:8080/', timeout=5).status)",
    )
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
    call = "import urllib.request as r; print(r.urlopen('http://api:8080/', timeout=5).status)"
    words = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe", "--as-pid2", f"--machine={name}", root,
             f"--network-namespace-path={run / 'held/web'}", f"--bind-ro={run / 'resolv/web'}:/etc/resolv.conf",
             "--bind-ro=/usr", "--resolv-conf=off", "--timezone=off", "--link-journal=no")  # fmt: skip

    def calls() -> str:
        return subprocess.run([*words, "python3", "-c", call], stdout=subprocess.PIPE, text=True, check=False).stdout

    assert calls() == ""
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    assert calls() == "200\n"
    assert cell.client.get("/v1/attachments/web").text("address") in podman("logs", "api").err
    assert cell.attachments() == ["api", "web"]
    cell.cellnet("release", "web")
    assert cell.attachments() == ["api"]
    with suppress(OSError):
        (PROPAGATED / name).rmdir()  # nspawn leaves it where a container has no file system of its own
