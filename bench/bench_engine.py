"""How long a container engine waits for cellnet: the plugin's ADD and DEL as whole processes, and `podman run` on our network
beside the bridge that comes with podman, in turn."""

import shutil
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import click

from bench.loads.callers import milliseconds
from bench.reports.figures import Bar, Series
from bench.script import Stopwatch, main, options, pause, repeat
from bench.stages.engine import BRIDGE, BRIDGES, OURS, Plugin, Podman
from bench.stages.scene import Scene, opened

ADD, DEL = "CNI ADD, the plugin's whole process", "CNI DEL, the plugin's whole process"
RUN, REMOVE = "podman run on {network}", "podman rm on {network}"
NETWORKS: Mapping[str, str] = {OURS: "cellnet", BRIDGE: "podman's own bridge"}
BARS = {ADD: Bar(p50=60)}


class OneByOne:
    """Every round a container of each kind, which goes again."""

    def __init__(self, scene: Scene, podman: Podman | None) -> None:
        self._scene = scene
        self._plugin = Plugin(scene)
        self._podman = podman
        self._numbers = count()

    def measure(self, watch: Stopwatch) -> None:
        """One round."""
        name = f"single-{next(self._numbers)}"
        netns = self._scene.namespace(name)
        watch.add(ADD, milliseconds(lambda: self._plugin.call("ADD", name, netns=netns)))
        pause()
        watch.add(DEL, milliseconds(lambda: self._plugin.call("DEL", name, netns=netns)))
        if self._podman is not None:
            for network, shown in NETWORKS.items():
                self._of_podman(self._podman, watch, network, shown)

    def _of_podman(self, podman: Podman, watch: Stopwatch, network: str, shown: str) -> None:
        pause()
        watch.add(RUN.format(network=shown), milliseconds(lambda: podman.run("box", network=network)))
        pause()
        watch.add(REMOVE.format(network=shown), milliseconds(lambda: podman.remove("box")))


def measured(*, attached: tuple[int, ...], rounds: int, runs: int, modes: tuple[str, ...]) -> tuple[Series, ...]:
    """The series, by what is around."""
    return tuple(each for mode in modes for each in _of_mode(mode, attached, rounds, runs))


def _of_mode(mode: str, attached: tuple[int, ...], rounds: int, runs: int) -> Iterator[Series]:
    with opened(f"tls.mtls={mode}", "overlay.cell_prefix=23") as scene:
        podman = Podman(scene) if shutil.which("podman") and (BRIDGES / "bridge").exists() else None
        if podman is None:
            click.echo("podman is not here, or has no bridge: left out")
        there = 0
        for wanted in sorted(attached):
            scene.fill(wanted, first=there)
            there = wanted
            watch = repeat(OneByOne(scene, podman).measure, rounds=rounds, runs=runs)
            setting = f"{wanted:,} attached" + (f", mtls {mode}" if mode != "none" else "")
            yield from (Series(what, setting, watch.of(what), BARS.get(what, Bar())) for what in watch.names())


@click.command()
@options(rounds=30)
@click.option(
    "--attached", default=(1, 250), show_default=True, multiple=True, help="Containers there before; may be repeated."
)
@click.option(
    "--mtls",
    "modes",
    default=("none", "strict"),
    show_default=True,
    multiple=True,
    type=click.Choice(("none", "accept", "strict")),
    help="Mode of mutual TLS; may be repeated.",
)
def engine(*, rounds: int, runs: int, attached: tuple[int, ...], modes: tuple[str, ...], results: Path) -> None:
    """What an engine waits for."""
    main("engine", lambda: (measured(attached=attached, rounds=rounds, runs=runs, modes=modes), {}), results=results)


if __name__ == "__main__":
    engine()
