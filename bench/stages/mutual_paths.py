"""From one container to another of a cell: in plain TCP, through a pair of HAProxies with mutual TLS, and in strict mode.

All of a path's work is on one processor: client, server, and every proxy between them. HAProxy checks that a certificate is one
of ours and nothing else: it knows no app, and asks for no rights.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.errors import HostRefused
from bench.loads.load import LAST_PORT, LATENCY, PATIENCE, PORT, PORTS, compiled, pinned, serve
from bench.stages.proxies import Place, Running
from bench.stages.scene import Container, Scene, opened
from bench.stages.tls_scene import identity_of, pinned_envoy
from host.namespace import NamespaceThread
from host.process import run

NEAR, FAR = 1_000, 2_000  # what the ports of the two HAProxies have more than the app's
LOOPBACK = IPv4Address("127.0.0.1")
ALLOWED = ", ".join(f"{PORT + more}-{LAST_PORT + more}" for more in (0, FAR))
POLICY = f"policies: [{{from: acme/shop/web, to: acme/shop/api, tcp: [{ALLOWED}]}}]\n"
HAPROXY = """\
global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 2s
  timeout client 600s
  timeout server 600s
"""
NEAR_END = """\
listen out-{port}
  bind 127.0.0.1:{near} backlog 1024
  server far {address}:{far} ssl crt {pem} ca-file {trust} verify required
"""
FAR_END = """\
listen in-{port}
  bind {address}:{far} backlog 1024 ssl crt {pem} ca-file {trust} verify required
  server app {address}:{port}
"""


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """One way from `web` to `api`: where a client dials, and whose processes carry it."""

    name: str
    client: NamespaceThread
    program: Path
    address: IPv4Address
    more: int
    carriers: tuple[int, ...]

    def measure(self, what: str, *, milliseconds: int, processes: int = 1) -> float:
        """One figure of load.c."""
        words = [what, str(self.address), str(PORTS[what] + self.more), str(milliseconds), str(processes)]
        return float(self.client.call(lambda: run([str(self.program), *words], timeout=PATIENCE)))

    @contextlib.contextmanager
    def kept(self, what: str, many: int) -> Iterator[None]:
        """With so many connections that are "idle" or "paused"."""
        words = [str(self.program), what, str(self.address), str(PORTS[LATENCY] + self.more), str(many)]
        argv = ["setpriv", "--pdeathsig", "KILL", "--", *words]
        with self.client.call(lambda: subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)) as child:
            try:
                assert child.stdout is not None
                if child.stdout.readline() != b"ready\n":
                    raise HostRefused(f"{many} {what} connections were not made", hint="see the message above")
                yield
            finally:
                child.kill()

    def resident(self) -> float:
        """Megabytes of the carriers."""
        lines = (Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in self.carriers)
        return sum(int(line.split()[1]) * 1024 / 1e6 for found in lines for line in found if line.startswith("Rss:"))


@contextlib.contextmanager
def staged() -> Iterator[tuple[Tunnelled, ...]]:
    """Plain, HAProxy, strict."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(opened("envoy.concurrency=1", name="plain"))
        strict = stack.enter_context(opened("envoy.concurrency=1", "tls.mtls=strict", name="strict"))
        yield (*_plain_paths(plain, stack), _strict_path(strict, stack))


@contextlib.contextmanager
def strict() -> Iterator[tuple[Scene, Tunnelled]]:
    """Strict mode alone, with an Envoy that has all processors, as it is installed."""
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(opened("tls.mtls=strict"))
        _, api, client, program = _ends(scene, stack)
        yield scene, Tunnelled("strict", client, program, api.address, 0, ())


def _plain_paths(scene: Scene, stack: contextlib.ExitStack) -> Iterator[Tunnelled]:
    web, api, client, program = _ends(scene, stack)
    yield Tunnelled("plain", client, program, api.address, 0, ())
    pids = tuple(stack.enter_context(each).pid for each in _haproxies(scene, web, api))
    yield Tunnelled("HAProxy pair", client, program, LOOPBACK, NEAR, pids)


def _strict_path(scene: Scene, stack: contextlib.ExitStack) -> Tunnelled:
    _, api, client, program = _ends(scene, stack)
    return Tunnelled("strict", client, program, api.address, 0, (pinned_envoy(scene, _processor()),))


def _ends(scene: Scene, stack: contextlib.ExitStack) -> tuple[Container, Container, NamespaceThread, Path]:
    web, api = scene.container("acme/shop/web"), scene.container("acme/shop/api")
    scene.put_file("mutual.yaml", POLICY)
    scene.sync()
    program = compiled(scene.cell.root)
    server, client = pinned(api.pin, {_processor()}), pinned(web.pin, {_processor()})
    stack.callback(server.close)
    stack.callback(client.close)
    serving = serve(program, server)
    stack.callback(serving.communicate)
    stack.callback(serving.kill)
    return web, api, client, program


def _haproxies(scene: Scene, web: Container, api: Container) -> Iterator[Running]:
    """The far one first: the near one is there when it can dial."""
    for container, text, listening in ((api, FAR_END, api.address), (web, NEAR_END, LOOPBACK)):
        identity = identity_of(scene, container)
        folder = scene.cell.root / f"haproxy-{container.name}"
        folder.mkdir()
        pem = folder / "haproxy.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(identity.chain.read_bytes() + identity.key.read_bytes())
        parts = (
            text.format(port=port, near=port + NEAR, far=port + FAR, address=api.address, pem=pem, trust=identity.trust)
            for port in range(PORT, LAST_PORT + 1)
        )
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY + "".join(parts))
        place = Place(container.pin, listening, folder, processor=_processor())
        yield Running(place, ["haproxy", "-q", "-db", "-f", str(config)], port=PORT + (FAR if container is api else NEAR))


def _processor() -> int:
    return max(os.sched_getaffinity(0))
