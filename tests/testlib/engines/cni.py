"""The real plugin of container engines, started as an engine starts it."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).resolve().parents[3] / ".venv/bin"
NOTHING: Mapping[str, object] = {}
ANSWER_WITHIN = 60.0  # seconds until it is taken to hang


class PluginError(AssertionError):
    """What an engine shows: code, what and hint of an answer that is an error."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(answer)
        self.code, self.what, self.hint = int(answer["code"]), str(answer["msg"]), str(answer["details"])


@dataclass(frozen=True)
class Engine:
    """An engine that knows one network; `socket` is the agent's. `plugin` is the program."""

    socket: Path
    version: str = "1.0.0"
    plugin: Path = PLUGINS / "cellnet-cni"

    def call(
        self, command: str, container: str = "", *, netns: object = "", interface: str = "eth0", args: str = "",
        config: Mapping[str, object] = NOTHING,
    ) -> Any:  # fmt: skip
        """One command; its answer, None where there is none. Raises PluginError."""
        given = {"cniVersion": self.version, "name": "cellnet", "type": "cellnet-cni", "socket": str(self.socket),
                 **config}  # fmt: skip
        environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": str(netns), "CNI_IFNAME": interface,
                       "CNI_ARGS": args, "CNI_PATH": "/nowhere", "PATH": "/nowhere"}  # fmt: skip
        done = subprocess.run([self.plugin], input=json.dumps(given).encode(), env=environment, capture_output=True,
                              timeout=ANSWER_WITHIN)  # fmt: skip
        assert done.stderr == b"", done.stderr.decode()
        answer: Any = json.loads(done.stdout) if done.stdout else None
        if done.returncode:
            raise PluginError(answer)
        return answer

    def add(
        self, container: str, netns: object, *, app: str = "acme/shop/web", name: str = "", interface: str = "eth0",
        config: Mapping[str, object] = NOTHING,
    ) -> Any:  # fmt: skip
        """ADD of a container that says of itself which app it is."""
        args = f"IgnoreUnknown=1;CELLNET_APP={app}" + (f";K8S_POD_NAME={name}" if name else "")
        return self.call("ADD", container, netns=netns, interface=interface, args=args, config=config)


def address_in(answer: Any) -> str:
    """The address that an ADD has answered."""
    address, _, length = str(answer["ips"][0]["address"]).partition("/")
    assert length == "32"
    return address
