"""A real podman of this machine on a test's cell: containers of a root file system that is this machine's /usr, without images.

Debian 12's podman hands containers to CNI, later ones to netavark. `network` makes the network `cellnet` for the one that is
there, as docs/engines.md says. What it keeps is below the cell's folder, and goes with it.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lab.children import Finished
from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import commands
from tests.testlib.node import Node
from tests.testlib.patience import eventually

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / ".venv/bin"
# No limit can be raised where tests run, and what comes with podman asks for a million open files.
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")
STORAGE = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=none")
STORED = '[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
CONFIG = """[network]
network_backend = "{backend}"
cni_plugin_dirs = ["{plugins}"]
netavark_plugin_dirs = ["{plugins}"]
network_config_dir = "{networks}"
"""


class PodmanContainer(Node):
    """One of podman's, on the overlay."""

    def __init__(self, podman: "Podman", name: str) -> None:
        found = podman.inspect(name)
        super().__init__(Path(found["NetworkSettings"]["SandboxKey"]), address=podman.address(name))
        self.podman, self.name = podman, name

    def exec(self, *argv: str) -> str:
        """What a command inside prints."""
        return self.podman("exec", self.name, *argv).out


class Podman:
    """The words of a test about one host's podman."""

    def __init__(self, cell: CellUnderTest) -> None:
        self.cell = cell
        self.folder = cell.lab.root / "podman"
        self._inside: tuple[str, ...] = ()
        self._hooks: tuple[str, ...] = ()
        self._holder: subprocess.Popen[bytes] | None = None
        self.networks, plugins = self.folder / "net.d", self.folder / "plugins"
        inside = [self.folder / "rootfs" / each for each in ("usr", "etc", "proc", "sys", "dev", "tmp", "run")]
        for each in (self.networks, plugins, *inside):
            each.mkdir(parents=True)
        for link in ("bin", "lib", "lib64", "sbin"):
            (self.folder / "rootfs" / link).symlink_to(f"usr/{link}")
        (plugins / "cellnet-cni").symlink_to(PLUGINS / "cellnet-cni")
        (plugins / "cellnet").symlink_to(PLUGINS / "cellnet-netavark")
        version = cell.lab.run("podman", "--version").out.split()[-1]
        self.has_cni = int(version.partition(".")[0]) < 5
        backend = "cni" if self.has_cni else "netavark"
        self._keep_in(STORED)
        (self.folder / "containers.conf").write_text(CONFIG.format(backend=backend, plugins=plugins, networks=self.networks))

    def __call__(self, *words: str, code: int | None = 0) -> Finished:
        """Run `podman WORDS` on the cell's host; `code` is the exit code that is expected, None for any."""
        done = self.cell.lab.run(*self._words(), *words)
        assert code is None or done.code == code, f"podman {' '.join(words)} ended with {done.code}: {done.out}{done.err}"
        return done

    def shell(self, block: str) -> str:
        """The commands of a document, one after the other, on the cell's host; what they print. IMAGE serves port 8080."""
        inside = " ".join((*LIMITS, "--stop-timeout=0", "--volume=/usr:/usr:ro", "--rootfs", str(self.folder / "rootfs")))
        hooks = self.folder / "hooks.d"
        places = {"/usr/lib/cni/": f"{self.folder / 'plugins'}/", "/etc/cni/net.d/": f"{self.networks}/",
                  "sudo cp agent/cni/cellnet-hook.json /usr/share/containers/oci/hooks.d/":
                  f"sed 's,/usr/bin/,{hooks}/,' agent/cni/cellnet-hook.json >{hooks}/cellnet-hook.json",
                  'oci-hook" /usr/bin/': f'oci-hook" {hooks}/',
                  "IMAGE": f"{inside} python3 -m http.server 8080"}  # fmt: skip
        script = "\n".join(commands(block))
        for shown, there in places.items():
            script = script.replace(shown, there)
        ours = f'sudo() {{ "$@"; }}; podman() {{ {shlex.join(self._words())} "$@"; }}; cd {ROOT}\n'
        done = self.cell.lab.run("bash", "-euc", ours + script)
        assert done.code == 0, f"{script}\n{done.out}{done.err}"
        return done.out

    def _words(self) -> list[str]:
        places = [f"--root={self.folder / 'storage'}", f"--runroot={self.folder / 'run'}"]
        conf = (f"CONTAINERS_CONF={self.folder / 'containers.conf'}", f"CONTAINERS_STORAGE_CONF={self.folder / 'storage.conf'}")
        return [*self._inside, "env", *conf, "podman", *STORAGE, *self._hooks, *places]

    def network(self, **keys: object) -> None:
        """The network `cellnet`, whose agent is the cell's."""
        agent = str(self.cell.lab.root / "run/cellnet/agent.sock")
        if self.has_cni:
            conflist = json.loads((ROOT / "agent/cni/cellnet.conflist").read_text())
            conflist["plugins"][0] |= {"socket": agent, **keys}
            (self.networks / "50-cellnet.conflist").write_text(json.dumps(conflist))
        else:
            options = [f"--opt={key}={value}" for key, value in {"socket": agent, **keys}.items()]
            self("network", "rm", "--force", "cellnet", code=None)
            self("network", "create", "-d", "cellnet", *options, "cellnet")

    def forget_network(self) -> None:
        """No plugin, no network: as before it is set up."""
        for path in (self.folder / "plugins/cellnet-cni", *self.networks.iterdir()):
            path.unlink()

    def run(self, name: str, *command: str, options: Sequence[str] = (), code: int | None = 0) -> Finished:
        """`podman run -d --name NAME --network cellnet`."""
        inside = ("--volume=/usr:/usr:ro", "--rootfs", str(self.folder / "rootfs"))
        networks = () if any(each.startswith("--network=") for each in options) else ("--network=cellnet",)
        words = ("run", "--detach", f"--name={name}", *networks, *LIMITS, *options, *inside)
        return self(*words, *(command or ("sleep", "infinity")), code=code)

    def remove(self, *names: str) -> None:
        """`podman rm`, of what runs too.

        Beside the one that cleans up after what has just ended, podman 4 sometimes finds still mounted what it takes away, or
        gives a namespace up without a word to the plugin.
        """
        eventually(lambda: self("rm", "--force", "--ignore", "--time=0", *names, code=None).code == 0)

    def container(
        self, name: str, app: str | None = None, *, command: Sequence[str] = (), options: Sequence[str] = ()
    ) -> PodmanContainer:
        """One that runs; of `app` by an alias, unless it is reserved."""
        said = [] if app is None else [f"--network-alias={app}"]
        self.run(name, *command, options=[*said, *options])
        return PodmanContainer(self, name)

    def inspect(self, name: str) -> dict[str, dict[str, str]]:
        """What podman says of one."""
        found: list[dict[str, dict[str, str]]] = json.loads(self("inspect", name).out)
        return found[0]

    def address(self, name: str) -> IPv4Address:
        """By podman's own word."""
        return IPv4Address(
            self("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name).out.strip()
        )

    def use_hook(self) -> None:
        """From now on it calls cellnet's for containers that are annotated."""
        folder = self.folder / "hooks.d"
        folder.mkdir()
        text = (ROOT / "agent/cni/cellnet-hook.json").read_text()
        (folder / "cellnet-hook.json").write_text(text.replace("/usr/bin/", f"{PLUGINS}/"))
        self._hooks = (f"--hooks-dir={folder}",)

    def have_ids(self, count: int) -> None:
        """From now on there are ids for containers with user namespaces of their own, in a mount namespace that is podman's."""
        ids = self.folder / "ids"
        ids.write_text(f"root:1000000:{count}\n")
        mounts = "".join(f"mount --bind {ids} /etc/{each}; " for each in ("subuid", "subgid"))
        for each in ("subuid", "subgid"):
            assert Path("/etc", each).exists(), "the host's login package makes it"
        self._holder = subprocess.Popen(["unshare", "--mount", "sh", "-euc", f"{mounts} echo; exec sleep infinity"],
                                        stdout=subprocess.PIPE)  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"\n"
        self._inside = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")
        self._keep_in(STORED + '[storage.options]\nroot-auto-userns-user = "root"\n')

    def _keep_in(self, text: str) -> None:
        (self.folder / "storage.conf").write_text(text.format(folder=self.folder))

    def image(self) -> str:
        """An image of the root file system, for what cannot run without one."""
        tar = self.folder / "root.tar"
        subprocess.run(["tar", "-C", str(self.folder / "rootfs"), "-cf", str(tar), "."], check=True)
        self("import", str(tar), "localhost/base:latest")
        return "localhost/base:latest"

    def give_to(self, uid: int) -> None:
        """The root file system is another user's, as that of a container with a user namespace is."""
        for each in (self.folder / "rootfs").iterdir():
            if not each.is_symlink():
                os.chown(each, uid, uid)

    def close(self) -> None:
        """Every container ends, and what was mounted for them."""
        self("rm", "--all", "--force", "--time=0", code=None)
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()


def is_removed(folder: Path) -> bool:
    """Whether all of it could be removed: what cleans up after a container may still write there."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextmanager
def podman_of(cell: CellUnderTest) -> Iterator[Podman]:
    """With a network `cellnet`; all its containers are gone afterwards."""
    made = Podman(cell)
    try:
        made.network()
        yield made
    finally:
        made.close()
        eventually(lambda: is_removed(made.folder))


@pytest.fixture
def podman(cell: CellUnderTest) -> Iterator[Podman]:
    """On the module's cell."""
    with podman_of(cell) as made:
        yield made
