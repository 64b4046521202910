"""dnsperf as the asker: how many questions a server answers in a second, what one costs it, and how long one takes alone."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.errors import HostRefused
from bench.loads.load import processor_seconds
from host.namespace import NamespaceThread
from host.process import run

RATE, COST, LATENCY = "questions", "processor time", "one question at a time"
UNITS = {RATE: "1/s", COST: "µs", LATENCY: "µs"}
OUTSTANDING = {RATE: 100, LATENCY: 1}
ANSWERED = re.compile(rb"Queries completed: +\d+ \(([\d.]+)%\)")
FIGURES = {RATE: re.compile(rb"Queries per second: +([\d.]+)"), LATENCY: re.compile(rb"Average Latency \(s\): +([\d.]+)")}
SCALE = {RATE: 1.0, LATENCY: 1e6}
PATIENCE = 60.0  # seconds beyond the measurement


@dataclass(frozen=True, slots=True)
class Asker:
    """`place` is where it asks from, `questions` a file with a name and a kind in each line, `pid` the server at `address`."""

    place: NamespaceThread
    questions: Path
    address: IPv4Address
    pid: int

    def measure(self, *, seconds: int) -> dict[str, float]:
        """One figure of each kind, in its unit. Raises HostRefused where an answer does not come."""
        before = processor_seconds(self.pid)
        rate = self._asked(RATE, seconds=seconds)
        cost = (processor_seconds(self.pid) - before) / (rate * seconds) * 1e6
        return {RATE: rate, COST: cost, LATENCY: self._asked(LATENCY, seconds=seconds)}

    def _asked(self, what: str, *, seconds: int) -> float:
        argv = [
            "dnsperf", "-s", str(self.address), "-d", str(self.questions), "-l", str(seconds), "-T", "1", "-c", "1",
            "-q", str(OUTSTANDING[what]),
        ]  # fmt: skip
        said = self.place.call(lambda: run(argv, timeout=seconds + PATIENCE))
        answered, figure = ANSWERED.search(said), FIGURES[what].search(said)
        if answered is None or figure is None or float(answered[1]) < 99.9:
            raise HostRefused(f"dnsperf got not all of its answers: {said.decode()[-400:]}", hint="see whether dnsmasq runs")
        return float(figure[1]) * SCALE[what]
