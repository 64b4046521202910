"""How soon an app that asks for a name outside, which a policy names, is connected to what it stands for: through a real cell.

Beside the host itself, which asks the same name server and connects by no rule. Each name is asked for once, and has an address
of its own that nothing has asked for: what is measured is the way of a name into the kernel.
"""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.dns.process import dnsmasq_program
from agent.errors import Unavailable
from bench.reports.comparison import Figure, ratio
from bench.reports.figures import percentile
from bench.stages.scene import opened
from dataplane.dns.probe import question
from host.namespace import NamespaceThread, run_in
from host.process import run
from lab.segment import OUTSIDE

NAMES = 50  # of a round
REST = 0.3  # seconds after a round: a container may ask 200 times a second, and one that asks more gets an error
FIRST = IPv4Address("198.18.0.1")
DOMAIN, PORT = "example.com", 443
POLICY = f'policies: [{{from: acme/shop/web, to: {{host: "*.{DOMAIN}"}}, tcp: [{PORT}]}}]\n'
PATIENCE = 10.0  # seconds
ASKED, SLOWEST = "name asked -> connected", "name asked -> connected, p99 of a round"
CONTAINER, HOST = "a container, by its policy", "the host itself"
RESOLVER = "169.254.0.2"


@dataclass(frozen=True, slots=True)
class Caller:
    """Where calls come from, and the name server that is asked there."""

    place: Path
    server: str

    def milliseconds(self, number: int) -> float:
        """To ask for a name and to be connected. Raises Unavailable where it is refused, or not answered."""
        asking, calling = run_in(self.place, _sockets)  # of that namespace, whoever uses them
        with asking, calling:
            asking.connect((self.server, 53))
            begun = time.monotonic()
            try:
                asking.send(question(name_of(number), number=number % 0x10000))
                asking.recv(512)
                calling.connect((str(FIRST + number), PORT))
            except OSError as error:
                hint = "an app that asks and connects at once must never be refused; see the cell's log"
                raise Unavailable(f"{name_of(number)} was not reached: {error}", hint=hint) from error
            return (time.monotonic() - begun) * 1000


def _sockets() -> tuple[socket.socket, socket.socket]:
    """For datagrams and for a connection, in the namespace of the calling thread."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for each in made:
        each.settimeout(PATIENCE)
    return made


def name_of(number: int) -> str:
    """One for each number, and for each an address: FIRST and so many more."""
    return f"n{number}.{DOMAIN}"


def measured(*, rounds: int) -> tuple[Figure, ...]:
    """The figures of both callers, which take turns."""
    with opened(f"dns.upstreams=['{OUTSIDE.ip}']") as scene:
        web = scene.container("acme/shop/web")
        scene.put_file("out.yaml", POLICY)
        scene.sync()
        with _outside(scene.cell.outside, scene.cell.root / "hosts", names=2 * rounds * NAMES):
            callers = {HOST: Caller(scene.cell.netns, str(OUTSIDE.ip)), CONTAINER: Caller(web.pin, RESOLVER)}
            times: dict[str, list[list[float]]] = {each: [] for each in callers}
            for number in range(rounds):
                for place, (who, caller) in enumerate(callers.items()):
                    first = (2 * number + place) * NAMES
                    times[who].append([caller.milliseconds(each) for each in range(first, first + NAMES)])
                    time.sleep(REST)
    return tuple(_figure(times, what, who) for what in (ASKED, SLOWEST) for who in callers)


def _figure(times: dict[str, list[list[float]]], what: str, who: str) -> Figure:
    percent = 50 if what == ASKED else 99
    values = {each: tuple(percentile(one, percent) for one in found) for each, found in times.items()}
    beside = {HOST: ratio(values[who], values[HOST])} if who == CONTAINER else {}
    return Figure(what, who, "ms", values[who], beside)


@contextlib.contextmanager
def _outside(place: Path, hosts: Path, *, names: int) -> Iterator[None]:
    """A name server and a host that has all addresses, for as long as the block lasts."""
    hosts.write_text("".join(f"{FIRST + number} {name_of(number)}\n" for number in range(names)))
    argv = [
        "setpriv", "--pdeathsig", "KILL", "--", str(dnsmasq_program()), "--keep-in-foreground", "--conf-file=/dev/null",
        "--pid-file=", "--log-facility=/dev/null", "--user=root", f"--listen-address={OUTSIDE.ip}", "--bind-interfaces",
        "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", f"--local=/{DOMAIN}/", "--local-ttl=60",
    ]  # fmt: skip
    thread = NamespaceThread(place, name="outside")
    thread.call(lambda: run(["ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo"], timeout=PATIENCE))
    serving = thread.call(lambda: subprocess.Popen(argv, stdin=subprocess.DEVNULL))
    try:
        with thread.call(lambda: socket.create_server(("", PORT), backlog=4096)):
            _await_answer(Caller(place, str(OUTSIDE.ip)))
            yield
    finally:
        serving.kill()
        serving.wait()
        thread.close()


def _await_answer(caller: Caller) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            caller.milliseconds(0)
        except Unavailable:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
