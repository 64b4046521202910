"""A container engine's two ways to a cell that is measured: the plugin as an engine starts it, and a real podman.

podman's containers have this machine's /usr for a root file system and no image, on our network or on the bridge that comes
with podman. What it keeps is below the cell's folder, and goes with it.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.errors import HostRefused
from bench.stages.scene import Scene

PLUGINS = Path(sys.executable).parent
BRIDGES = Path("/usr/lib/cni")
OURS, BRIDGE = "cellnet", "podman"
STORAGE = ("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=runc", "--events-backend=none")
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000")  # podman's own ask for more than may be raised everywhere
LINKS = ("bin", "lib", "lib64", "sbin")
FOLDERS = ("usr", "etc", "proc", "sys", "dev", "tmp", "run")
HINT = "see the cell's log, and docs/engines.md"


@dataclass(frozen=True, slots=True)
class Plugin:
    """The CNI plugin, as a whole process."""

    scene: Scene

    def call(self, command: str, container: str, *, netns: Path) -> None:
        """ADD or DEL. Raises HostRefused where it fails."""
        config = {"cniVersion": "1.0.0", "name": "cellnet", "type": "cellnet-cni", "app": "acme/shop/single",
                  "socket": str(self.scene.cell.root / "run/cellnet/agent.sock")}  # fmt: skip
        environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": str(netns), "CNI_IFNAME": "eth0",
                       "CNI_ARGS": f"K8S_POD_NAME={container}", "PATH": os.environ["PATH"]}  # fmt: skip
        done = subprocess.run(
            [PLUGINS / "cellnet-cni"], input=json.dumps(config), env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise HostRefused(f"{command} of {container}: {done.stdout}{done.stderr}", hint=HINT)


class Podman:
    """On the cell's host. Raises HostRefused where podman does."""

    def __init__(self, scene: Scene) -> None:
        self._cell = scene.cell
        self._folder = scene.cell.root / "podman"
        networks, root = self._folder / "net.d", self._folder / "rootfs"
        for each in (networks, *(root / each for each in FOLDERS)):
            each.mkdir(parents=True)
        for link in LINKS:
            (root / link).symlink_to(f"usr/{link}")
        ours = {"type": "cellnet-cni", "app": "acme/shop/podman", "socket": str(scene.cell.root / "run/cellnet/agent.sock")}
        (networks / "50-cellnet.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": OURS, "plugins": [ours]}))
        lines = ("[network]", 'network_backend = "cni"', f'cni_plugin_dirs = ["{PLUGINS}", "{BRIDGES}"]',
                 f'network_config_dir = "{networks}"')  # fmt: skip
        (self._folder / "containers.conf").write_text("\n".join(lines) + "\n")

    def run(self, name: str, *, network: str) -> None:
        """A container that sleeps, started when this returns."""
        root = ("--volume=/usr:/usr:ro", "--rootfs", str(self._folder / "rootfs"))
        self._podman("run", "--detach", f"--name={name}", f"--network={network}", *LIMITS, *root, "sleep", "infinity")

    def remove(self, name: str) -> None:
        """Nothing of it is left when this returns."""
        self._podman("rm", "--force", "--time=0", name)

    def _podman(self, *words: str) -> None:
        places = (f"--root={self._folder / 'storage'}", f"--runroot={self._folder / 'run'}")
        conf = f"CONTAINERS_CONF={self._folder / 'containers.conf'}"
        done = self._cell.run("env", conf, "podman", *STORAGE, *places, *words)
        if done.code:
            raise HostRefused(f"podman {words[0]}: {done.err.strip() or done.out.strip()}", hint=HINT)
