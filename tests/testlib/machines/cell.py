"""A machine as a cell: the units run, apps are attached, and a caller never rests while something is done to the cell."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.machines.machine import Machine
from tests.testlib.patience import eventually

IN_CONTAINERS = Path(__file__).resolve().parents[1] / "in_containers"
TLS_PORT, PORT = 61443, 8080
# Not the port of plain calls: Envoy calls it with the caller's address, and may choose a port that the caller itself has in use
BEHIND_TLS = 8081
UNITS = ("cellnet-agent.service", "cellnet-envoy.service", "cellnet-dns.service", "cellnet-dns-hop.service")
POLICY = "policies: [{{from: acme/shop/web, to: acme/shop/api, tcp: [{ports}]}}]\n"
CALL = "import socket; socket.create_connection(('{address}', {port}), timeout=5)"
KINDS = ("call", "tls call", "stream", "tls stream")


@dataclass(frozen=True, slots=True)
class Exchanges:
    """What a restless caller has come to since it was asked last, by kind, and all its failures so far."""

    done: dict[str, int]
    failed: Sequence[str]

    def of(self, word: str) -> list[str]:
        """The failures of these kinds."""
        return [each for each in self.failed if each.startswith(word)]


class RestlessCaller:
    """In the container `name`: streams and calls, plain and by TLS, to an app that echoes."""

    def __init__(self, machine: Machine, name: str, *, to: str) -> None:
        script = IN_CONTAINERS / "restless_caller.py"
        words = ("cellnet", "exec", name, "--", "python3", "-IS", str(script), to, str(PORT), str(TLS_PORT))
        self._process = machine.start(*words, pipes=True)
        self.progress()

    def so_far(self) -> Exchanges:
        """As of now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line.startswith("{"), f"the caller has ended: {line}{self._process.stdout.read()}"
        found = json.loads(line)
        return Exchanges({kind: count for kind, count in found.items() if kind != "failed"}, found["failed"])

    def progress(self, *kinds: str, seconds: float = 30) -> Exchanges:
        """Once each of these kinds (all unless given) has come to 20 more exchanges, or has failed."""
        until, wanted = time.monotonic() + seconds, kinds or KINDS
        counts = dict.fromkeys(wanted, 0)
        while True:
            now = self.so_far()
            counts = {kind: count + now.done.get(kind, 0) for kind, count in counts.items()}
            if all(count >= 20 or now.of(kind) for kind, count in counts.items()):
                return Exchanges(counts, now.failed)
            assert time.monotonic() < until, f"no more than {counts} after {seconds:g} s; failed: {now.failed}"
            time.sleep(0.05)

    def close(self) -> None:
        """Ends it."""
        self._process.communicate("", timeout=10)


class MachineCell:
    """A machine whose units are started when this is made.

    With `apps` it has `api`, `web` that may reach it, and `other` that may not.
    """

    def __init__(self, machine: Machine, *, config: str = "", apps: bool = True) -> None:
        self.machine = machine
        self.write("/etc/cellnet/agent.yaml", config)
        self.allow()
        machine.run("systemctl", "enable", "--now", "--quiet", "cellnet.target", timeout=120)
        self.wait_well()
        if apps:
            self.start_apps()

    def write(self, inside: str, text: str) -> None:
        """A file of the machine, in place at once and whole."""
        path = self.machine.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}")
        beside.write_text(text)
        beside.rename(path)

    def allow(self) -> None:
        """The policy: web to api, plain and TLS."""
        self.write("/etc/cellnet/policies.d/shop.yaml", POLICY.format(ports=f"{PORT}, {TLS_PORT}"))

    def wait_well(self, seconds: int = 60) -> None:
        """Until the status is well."""
        self.machine.run("cellnet", "status", "--wait", str(seconds), timeout=seconds + 30)

    def start_apps(self) -> None:
        """api, which echoes; web and other, which only are there."""
        app = ("python3", "-IS", str(IN_CONTAINERS / "echo_app.py"), str(PORT), str(BEHIND_TLS))
        self.machine.start("cellnet", "run", "--app", "acme/shop/api", "--name", "api", "--port", str(PORT),
                           "--tls-target", str(BEHIND_TLS), "--", *app)  # fmt: skip
        for name in ("web", "other"):
            self.machine.start("cellnet", "run", "--app", f"acme/shop/{name}", "--name", name, "--", "sleep", "infinity")
        eventually(lambda: len(self.attachments()) == 3)
        eventually(lambda: self.connects("web", PORT) and self.connects("web", TLS_PORT))

    def attachments(self) -> dict[str, str]:
        """Address by name."""
        found = json.loads(self.machine.run("cellnet", "ps", "--json").stdout)
        return {each["name"]: each["address"] for each in found}

    def connects(self, name: str, port: int) -> bool:
        """Whether a container's call to api gets through."""
        call = CALL.format(address=self.attachments()["api"], port=port)
        return self.machine.run("cellnet", "exec", name, "--", "python3", "-IS", "-c", call, check=False).returncode == 0

    def caller(self) -> RestlessCaller:
        """web's, to api."""
        return RestlessCaller(self.machine, "web", to=self.attachments()["api"])

    def pid(self, unit: str) -> int:
        """Of a unit's main process, in the machine."""
        return int(self.machine.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout)

    def has_own_mounts(self, unit: str) -> bool:
        """Whether a unit's main process is in another mount namespace than process 1."""
        return self.machine.shell(f"readlink /proc/{{1,{self.pid(unit)}}}/ns/mnt | uniq").count("mnt") == 2
