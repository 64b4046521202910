"""61443 beside HAProxy and nginx, which do the same in the same container on the same processor, in front of the same app.

Proxies have one thread each, and share one processor with callers and app: no side waits for a slower one, so a rate is the
cost of all of the work. The proxy's own part of it is its processor time. They take turns in every round.
"""

import contextlib
import os
import random
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import click

from agent.errors import HostRefused
from bench.loads.load import PATIENCE, pinned, processor_seconds
from bench.reports.comparison import Figure, Limit, ratio
from bench.script import compared, options
from bench.stages import proxies
from bench.stages.proxies import Identity, Place
from bench.stages.scene import Container, opened
from bench.stages.tls_scene import identity_of, pinned_envoy
from host.namespace import NamespaceThread
from host.process import run

SOURCE = Path(__file__).parent / "loads" / "tls_load.c"
APP, OURS, HAPROXY, NGINX = 8080, 61443, 61444, 61445
CONNECTIONS, REQUESTS, THROUGHPUT = "connections", "requests", "throughput"
UNITS = {CONNECTIONS: "1/s", REQUESTS: "1/s", THROUGHPUT: "Gbit/s"}
NAMES = {
    CONNECTIONS: "new TLS connections, each with a request",
    REQUESTS: "requests on kept connections",
    THROUGHPUT: "throughput of large answers",
}
# how much is done while one figure's worth of processor time is counted
COSTS = {CONNECTIONS: "processor time of a connection", REQUESTS: "of a request", THROUGHPUT: "of a gigabit"}
POLICY = "policies: [{from: acme/shop/web, to: acme/shop/api, tcp: [61443-61445]}]\n"


@dataclass(frozen=True, slots=True)
class Server:
    """One TLS port. `pid` and its children do the work."""

    name: str
    port: int
    pid: int

    def processor_seconds(self) -> float:
        """That it has had so far."""
        return sum(map(processor_seconds, _family(self.pid)))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


@dataclass(frozen=True, slots=True)
class Stage:
    """The callers and the proxies that they call."""

    callers: NamespaceThread
    program: Path
    api: Container
    servers: tuple[Server, ...]

    def measure(self, what: str, server: Server, *, milliseconds: int) -> tuple[float, float]:
        """The figure, and the processor time for one unit of it in microseconds."""
        argv = [str(self.program), what, str(self.api.address), str(server.port), str(milliseconds)]
        before = server.processor_seconds()
        found = float(self.callers.call(lambda: run(argv, timeout=PATIENCE)))
        took = server.processor_seconds() - before
        if not found:
            raise HostRefused(f"{server.name} has ended no call in {milliseconds} ms", hint="measure for longer")
        return found, took * 1e6 / (found * milliseconds / 1000)


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """A cell with an app that all three serve."""
    processor = max(os.sched_getaffinity(0))
    with opened("envoy.concurrency=1") as scene, contextlib.ExitStack() as stack:
        web, api = scene.container("acme/shop/web"), scene.container("acme/shop/api")
        scene.put_file("tls.yaml", POLICY)
        scene.sync()
        folder = scene.cell.root / "proxies"
        folder.mkdir()
        run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(folder / "load"), str(SOURCE), "-lssl", "-lcrypto"],
            timeout=PATIENCE)  # fmt: skip
        place = Place(api.pin, api.address, folder, processor=processor)
        stack.enter_context(proxies.app(place, port=APP))
        identity = identity_of(scene, api)
        servers = [
            Server("61443", OURS, pinned_envoy(scene, processor)),
            Server("HAProxy", HAPROXY, stack.enter_context(proxies.haproxy(place, identity, port=HAPROXY, app=APP)).pid),
            Server("nginx", NGINX, stack.enter_context(proxies.nginx(place, identity, port=NGINX, app=APP)).pid),
        ]
        callers = pinned(web.pin, {processor})
        stack.callback(callers.close)
        callers.call(lambda: _same(api, servers, identity))
        yield Stage(callers, folder / "load", api, tuple(servers))


def _same(api: Container, servers: list[Server], identity: Identity) -> None:
    """Whether a caller sees any difference. Raises HostRefused if one serves another version, cipher or certificate."""
    context = ssl.create_default_context(cafile=str(identity.trust))
    context.check_hostname = False
    seen = {server.name: _seen(context, api, server.port) for server in servers}
    if len(set(seen.values())) > 1:
        raise HostRefused(f"the ports are not alike: {seen}", hint="see bench/stages/proxies.py")


def _seen(context: ssl.SSLContext, api: Container, port: int) -> tuple[str, str, str]:
    with (
        socket.create_connection((str(api.address), port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain) as made,
    ):
        cipher, leaf = made.cipher(), made.getpeercert(binary_form=True)
        assert cipher
        assert leaf
        return str(made.version()), cipher[0], sha256(leaf).hexdigest()[:16]


def measured(*, rounds: int, milliseconds: int) -> tuple[Figure, ...]:
    """Rates, then what they cost."""
    rates: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    with staged() as stage:
        for _ in range(rounds):
            for server in random.sample(stage.servers, len(stage.servers)):
                for what in UNITS:
                    rate, cost = stage.measure(what, server, milliseconds=milliseconds)
                    rates.setdefault((what, server.name), []).append(rate)
                    costs.setdefault((what, server.name), []).append(cost)
    names = [server.name for server in stage.servers]
    return (
        *(_figure(rates, what, name, names[1:], label=NAMES[what], unit=UNITS[what], bar=Limit(least=1.0))
          for what in UNITS for name in names),
        *(_figure(costs, what, name, names[1:], label=COSTS[what], unit="µs", bar=None) for what in UNITS for name in names),
    )  # fmt: skip


def _figure(
    values: Mapping[tuple[str, str], list[float]], what: str, name: str, others: list[str], *, label: str, unit: str,
    bar: Limit | None,
) -> Figure:  # fmt: skip
    own = tuple(values[what, name])
    if name in others:
        return Figure(label, name, unit, own)
    beside = {other: ratio(own, tuple(values[what, other])) for other in others}
    return Figure(label, name, unit, own, beside, {} if bar is None else dict.fromkeys(others, bar))


@click.command()
@options(rounds=8)
@click.option("--milliseconds", default=500, show_default=True, type=click.IntRange(1), help="Length of each measurement.")
def tls(*, rounds: int, runs: int, milliseconds: int, results: Path) -> None:
    """The TLS port beside HAProxy and nginx."""
    compared("tls", lambda: measured(rounds=rounds * runs, milliseconds=milliseconds), results=results)


if __name__ == "__main__":
    tls()
