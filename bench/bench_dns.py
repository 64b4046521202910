"""The cell's DNS beside a bare dnsmasq with the same names: its own options, one file of hosts, and no rule on the way.

Servers have one processor, callers another. They take turns in every round. What one container may ask is lifted for the time:
else that would be measured.
"""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import click

from agent.dns.process import dnsmasq_program
from bench.loads.load import pinned
from bench.loads.questions import COST, LATENCY, RATE, UNITS, Asker
from bench.reports.comparison import Figure, Limit, ratio
from bench.script import compared, options
from bench.stages.named_crowd import fill_with_names
from bench.stages.scene import Scene, opened
from dataplane.firewall.resolver import CHAIN, QUESTIONS
from dataplane.tables import LIMITED_QUESTIONS
from host import namespace
from host.namespace import run_in
from host.process import run
from lab.cell import Part
from lab.segment import ip

RESOLVER, BARE_SERVER, BARE_CALLER = (IPv4Address(each) for each in ("169.254.0.2", "192.0.2.1", "192.0.2.2"))
OURS, BARE = "cellnet", "bare dnsmasq"
LIFTED = "-p udp -m hashlimit --hashlimit-above 1000000/sec --hashlimit-burst 10000 --hashlimit-mode srcip"
BARS = {RATE: Limit(least=1.0), LATENCY: Limit(most=1.0)}
NAMES = {RATE: "questions answered", COST: "processor time of one, in dnsmasq", LATENCY: "one question and its answer"}


@dataclass(frozen=True, slots=True)
class Places:
    """Whom to ask from where, by the name of the side."""

    askers: dict[str, Asker]
    setting: str


def hosts_of(scene: Scene) -> str:
    """All names of instances that the cell's dnsmasq has, as one file."""
    text = "".join(each.read_text() for each in sorted((scene.cell.root / "run/cellnet/dns/names").iterdir()))
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"{RESOLVER} "))


def questions_of(hosts: str) -> str:
    """One for each name, in an order that has nothing to do with the file's."""
    names = sorted({name for line in hosts.splitlines() for name in line.split()[1:]})
    random.Random(1).shuffle(names)
    return "".join(f"{name} A\n" for name in names)


@contextlib.contextmanager
def bare(folder: Path, hosts: str) -> Iterator[tuple[Path, int]]:
    """A dnsmasq with its own options: the namespace to ask it from, and its process."""
    server, caller = folder / "bare-server", folder / "bare-caller"
    for each in (server, caller):
        namespace.create(each)
        ip(each, "link set lo up")
    ip(server, f"link add v0 type veth peer name v0 netns {caller}")
    ip(server, f"addr add {BARE_SERVER}/24 dev v0", "link set v0 up")
    ip(caller, f"addr add {BARE_CALLER}/24 dev v0", "link set v0 up")
    (folder / "hosts").write_text(hosts)
    argv = [
        "nsenter", f"--net={server}", "--", str(dnsmasq_program()), "--keep-in-foreground", "--conf-file=/dev/null",
        "--pid-file=", "--log-facility=/dev/null", "--user=root", "--no-resolv", "--no-hosts",
        f"--addn-hosts={folder / 'hosts'}", f"--listen-address={BARE_SERVER}", "--bind-interfaces",
    ]  # fmt: skip
    running = subprocess.Popen(argv)
    os.sched_setaffinity(running.pid, {min(os.sched_getaffinity(0))})
    try:
        yield caller, running.pid
    finally:
        running.kill()
        running.wait()


@contextlib.contextmanager
def lifted(scene: Scene) -> Iterator[None]:
    """No agent that would put it back, and a limit that is none in the place of the one for questions."""
    backend = next(each.text("backend") for each in [scene.client.get("/v1/status").at("firewall")])
    scene.cell.kill(Part.AGENT)
    tool = f"iptables-{backend}"
    rules = run_in(scene.cell.netns, lambda: run([tool, "-S", CHAIN], timeout=30.0)).decode().splitlines()
    place = next(number for number, rule in enumerate(rules) if LIMITED_QUESTIONS in rule)
    assert QUESTIONS.split()[0] in rules[place]
    words = [tool, "-R", CHAIN, str(place), *LIFTED.split(), "--hashlimit-name", "cellnet-bench", "-j", "DROP"]
    run_in(scene.cell.netns, lambda: run(words, timeout=30.0))
    try:
        yield
    finally:
        scene.cell.start()
        scene.cell.wait_well()


@contextlib.contextmanager
def places(attached: int) -> Iterator[Places]:
    """Both servers, with the same names."""
    processors = sorted(os.sched_getaffinity(0))
    with opened() as scene, contextlib.ExitStack() as stack:
        fill_with_names(scene, attached)
        caller = scene.container("acme/shop/web")
        hosts = hosts_of(scene)
        dnsmasq = scene.cell.part(Part.DNS)
        assert dnsmasq is not None
        os.sched_setaffinity(dnsmasq.pid, {processors[0]})
        questions = scene.cell.root / "questions"
        questions.write_text(questions_of(hosts))
        stack.enter_context(lifted(scene))
        others, bare_pid = stack.enter_context(bare(scene.cell.root, hosts))
        threads = {side: pinned(pin, {processors[-1]}) for side, pin in ((OURS, caller.pin), (BARE, others))}
        for each in threads.values():
            stack.callback(each.close)
        askers = {
            OURS: Asker(threads[OURS], questions, RESOLVER, dnsmasq.pid),
            BARE: Asker(threads[BARE], questions, BARE_SERVER, bare_pid),
        }
        yield Places(askers, f"{len(hosts.splitlines())} instances")


def measured(counts: Sequence[int], *, rounds: int, seconds: int) -> tuple[Figure, ...]:
    """The figures of both sides, with each number of instances."""
    figures: list[Figure] = []
    for count in counts:
        with places(count) as found:
            values: dict[tuple[str, str], list[float]] = {}
            for _ in range(rounds):
                for side in random.sample([OURS, BARE], 2):
                    for what, value in found.askers[side].measure(seconds=seconds).items():
                        values.setdefault((what, side), []).append(value)
            for what, unit in UNITS.items():
                own, other = tuple(values[what, OURS]), tuple(values[what, BARE])
                setting = found.setting
                figures.append(Figure(NAMES[what], f"{BARE}, {setting}", unit, other))
                beside = {BARE: ratio(own, other)}
                bars = {BARE: BARS[what]} if what in BARS else {}
                figures.append(Figure(NAMES[what], f"{OURS}, {setting}", unit, own, beside, bars))
    return tuple(figures)


@click.command()
@options(rounds=10, runs=1)
@click.option("--attached", default=(8, 240), show_default=True, multiple=True, help="Instances; may be repeated.")
@click.option("--seconds", default=2, show_default=True, type=click.IntRange(1), help="Of each measurement.")
def dns(*, rounds: int, runs: int, attached: tuple[int, ...], seconds: int, results: Path) -> None:
    """Questions for names, beside a bare dnsmasq."""
    compared("dns", lambda: measured(attached, rounds=rounds * runs, seconds=seconds), results=results)


if __name__ == "__main__":
    dns()
