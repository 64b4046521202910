"""From power on to denying, and to allowing: a machine with the units, whose containers are services that the boot starts.

Denying: the agent's first turn is done, so that nothing passes that no policy allows; before, there is no container's link.
Allowing: a container's call, by name, to another one gets through.
"""

import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from bench.reports.comparison import Figure
from bench.script import Stopwatch, compared, options, repeat
from tests.testlib.machines.cell import MachineCell
from tests.testlib.machines.machine import Machine, Segment
from tests.testlib.patience import eventually

ROOT = Path(__file__).resolve().parents[1]
DENYING, ALLOWING = "power on -> denying", "power on -> allowing"
SYSTEMD, AGENT = "power on -> systemd runs", "start of the agent -> denying"
SETTING = "a machine of systemd-nspawn, two containers"
FIRST, PORT = "/root/first", 8080
SERVICE = """
[Unit]
After=cellnet-agent.service
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/cellnet run --app acme/shop/{name} --name {name} {options} -- {command}
Restart=always
RestartSec=20ms

[Install]
WantedBy=multi-user.target
"""
COMMANDS = {
    "api": (f"--port {PORT}", f"python3 -IS {ROOT}/tests/testlib/in_containers/echo_app.py {PORT}"),
    "web": ("", f"python3 -IS {ROOT}/bench/loads/first_call.py api.shop.acme.cell.internal {PORT} {FIRST}"),
}


def prepared(machine: Machine) -> Machine:
    """Its next boot starts all of it."""
    cell = MachineCell(machine, apps=False)
    for name, (words, command) in COMMANDS.items():
        cell.write(f"/etc/systemd/system/{name}.service", SERVICE.format(name=name, options=words, command=command))
    machine.shell(f"systemctl daemon-reload; systemctl enable --quiet {' '.join(COMMANDS)}; sync")
    return machine


def one_boot(machine: Machine, watch: Stopwatch) -> None:
    """Power off, and on."""
    machine.power_off()
    machine.path(FIRST).unlink(missing_ok=True)
    on = time.monotonic()
    machine.boot()
    machine.ready()
    eventually(lambda: machine.path(FIRST).exists() and machine.path(FIRST).read_text(), seconds=60)
    reached = stamps(machine)
    watch.add(SYSTEMD, (reached["UserspaceTimestampMonotonic"] - on) * 1000)
    watch.add(DENYING, (reached["ActiveEnterTimestampMonotonic"] - on) * 1000)
    watch.add(AGENT, (reached["ActiveEnterTimestampMonotonic"] - reached["ExecMainStartTimestampMonotonic"]) * 1000)
    watch.add(ALLOWING, (float(machine.path(FIRST).read_text()) - on) * 1000)


def stamps(machine: Machine) -> Mapping[str, float]:
    """When what was reached, in seconds of the kernel's."""
    wanted = ("show", "--property=UserspaceTimestampMonotonic"), (
        "show", "--property=ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic", "cellnet-agent.service",
    )  # fmt: skip
    text = "".join(machine.run("systemctl", *words).stdout for words in wanted)
    return {name: int(value) / 1e6 for name, _, value in (line.partition("=") for line in text.split())}


def measured(*, rounds: int, runs: int) -> tuple[Figure, ...]:
    """On one machine, boot after boot."""
    with tempfile.TemporaryDirectory(prefix="cellnet-bench-") as folder, closing(Segment()) as segment:
        with closing(Machine(segment, 1, folder=Path(folder))) as machine:
            watch = repeat(partial(one_boot, prepared(machine.ready())), rounds=rounds, runs=runs)
        return tuple(Figure(what, SETTING, "ms", sum(watch.of(what), ())) for what in watch.names())


@click.command()
@options(rounds=5, runs=2)
def boot(*, rounds: int, runs: int, results: Path) -> None:
    """The time of a boot."""
    compared("boot", lambda: measured(rounds=rounds, runs=runs), results=results)


if __name__ == "__main__":
    boot()
