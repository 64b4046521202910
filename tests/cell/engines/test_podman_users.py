"""Who runs a container of podman, and as whom: rootless podman is refused, users inside read what is theirs, in strict mode."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.engines.podman import LIMITS, ROOT, STORAGE, Podman
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually

SERVER = ("python3", "-m", "http.server", "8080")
CALL = "import urllib.request as r; print(r.urlopen('http://api:8080/', timeout=5).status)"


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


def test_a_user_inside_reads_the_key_that_is_its_own_and_calls_by_name_through_tunnels(
    cell: CellUnderTest, podman: Podman
) -> None:
    for name in ("api", "web"):
        options = cell.cellnet("reserve", name, f"--app=acme/shop/{name}", "--port=8080", "--key-owner=1000", "--podman").out
        podman.run(name, *(SERVER if name == "api" else ()), options=[*options.split()[1:], "--user=1000:1000"])
    keys_of = "openssl pkey -in $CF_INSTANCE_KEY -pubout; openssl x509 -in $CF_INSTANCE_CERT -noout -pubkey"
    address, *keys = podman("exec", "web", "sh", "-euc", f"echo $CF_INSTANCE_INTERNAL_IP; {keys_of}").out.splitlines()
    assert address == str(podman.address("web"))
    assert keys[: len(keys) // 2] == keys[len(keys) // 2 :]
    verified = podman(
        "exec",
        "web",
        "sh",
        "-euc",
        "openssl verify -CApath $CF_SYSTEM_CERT_PATH -untrusted $CF_INSTANCE_CERT $CF_INSTANCE_CERT",
    )
    assert verified.out.endswith(": OK\n")
    assert podman("exec", "--user=1001", "web", "sh", "-c", "cat $CF_INSTANCE_KEY", code=None).code != 0
    assert podman("exec", "web", "python3", "-c", CALL, code=None).code != 0
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: podman("exec", "web", "python3", "-c", CALL, code=None).out == "200\n")
    assert address in podman("logs", "api").err


def test_a_port_that_podman_is_to_publish_opens_by_policy(cell: CellUnderTest, podman: Podman) -> None:
    podman.container("api", "acme/shop/api", command=SERVER, options=["--publish=8000:8080"])
    assert cell.outside.connect(cell.host, 8000) is Refused
    cell.policy_file("in.yaml", "policies: [{from: {cidr: 0.0.0.0/0}, to: acme/shop/api, tcp: 8080}]")
    eventually(lambda: cell.outside.connect(cell.host, 8000) is Connected)
    cell.remove_policy_file("in.yaml")
    eventually(lambda: cell.outside.connect(cell.host, 8000) is Refused)


def test_containers_with_user_namespaces_that_podman_chose_are_attached_like_others(
    cell: CellUnderTest, podman: Podman
) -> None:
    podman.have_ids(200_000)
    image = podman.image()
    for name in ("api", "web"):
        words = ("run", "--detach", f"--name={name}", "--network=cellnet", f"--network-alias=acme/shop/{name}", "--userns=auto")
        podman(*words, *LIMITS, "--dns=169.254.0.2", "--dns-search=shop.acme.cell.internal", "--volume=/usr:/usr:ro", image,
               *(SERVER if name == "api" else ("sleep", "infinity")))  # fmt: skip
    maps = {podman("exec", name, "cat", "/proc/self/uid_map").out.split()[1] for name in ("api", "web")}
    assert len(maps - {"0"}) == 2
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: podman("exec", "web", "python3", "-c", CALL, code=None).out == "200\n")
    cell.kill("agent", again=True)
    eventually(lambda: cell.wait_well().flag("ok"))
    assert cell.attachments() == ["api", "web"]
    assert podman("exec", "web", "python3", "-c", CALL).out == "200\n"
    podman.remove("api", "web")
    eventually(lambda: cell.attachments() == [])


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that another user can enter, as those of tests are not."""
    with tempfile.TemporaryDirectory(prefix="cnt-home-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


def test_rootless_podman_is_refused_and_its_user_reads_why(cell: CellUnderTest, podman: Podman, home: Path) -> None:
    if not podman.has_cni:
        return  # what podman 5 needs before a rootless one gets to a network is not among a test's packages
    for each in ("net.d", "run", "plugins"):
        (home / each).mkdir(parents=True)
    shutil.copy(ROOT / "agent/cni/plugin.py", home / "plugins/cellnet-cni")
    shutil.copytree(podman.folder / "rootfs", home / "rootfs", symlinks=True)
    shutil.copy(podman.networks / "50-cellnet.conflist", home / "net.d")
    (home / "containers.conf").write_text(
        f'[network]\nnetwork_backend = "cni"\ncni_plugin_dirs = ["{home}/plugins"]\nnetwork_config_dir = "{home}/net.d"\n'
    )
    subprocess.run(["chown", "--recursive", "1000:1000", str(home)], check=True)
    user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
            f"HOME={home}", f"XDG_RUNTIME_DIR={home}/run", f"CONTAINERS_CONF={home}/containers.conf")  # fmt: skip
    words = ("run", "--name=web", "--network=cellnet", "--network-alias=acme/shop/web", *LIMITS, "--volume=/usr:/usr:ro")
    # what a rootless podman leaves running ends with the namespace of its processes
    alone = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    done = cell.lab.run(*alone, *user, "podman", *STORAGE, *words, "--rootfs", str(home / "rootfs"), "true")
    assert done.code != 0
    assert "hint: cellnet needs an engine that runs as root; a rootless one cannot use it" in done.err
    assert cell.attachments() == []
