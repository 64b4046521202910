"""The yardstick: one rule through iptables-restore by hand, to the tool's end, as a script would do it.

On a machine with other users a ratio to it is steadier than milliseconds. It is taken in an empty namespace: in the cell's own
the agent would see a foreign change and look for damage while the next thing is measured.
"""

from types import TracebackType

from bench.loads.callers import milliseconds
from bench.stages.scene import Scene
from host.namespace import NamespaceThread
from host.process import run

WHAT = "iptables-restore of one rule, by hand"
TEXT = "*filter\n:BENCH - [0:0]\n-A BENCH -p tcp -m mark --mark {mark:#x}/0xffff -m tcp --dport 8080 -j ACCEPT\nCOMMIT\n"
TIMEOUT = 30.0


class Floor:
    """Works in a chain that nothing jumps to. `backend` chooses the tool: nft or legacy."""

    def __init__(self, scene: Scene, *, backend: str = "nft") -> None:
        self._thread = NamespaceThread(scene.namespace("floor"), name="floor")
        self._argv = (f"iptables-{backend}-restore", "--noflush", "-w")
        self._mark = 0

    def measure(self) -> float:
        """Milliseconds."""
        self._mark += 1
        text = TEXT.format(mark=self._mark & 0xFFFF).encode()
        return self._thread.call(lambda: milliseconds(lambda: run(self._argv, stdin=text, timeout=TIMEOUT)))

    def __enter__(self) -> "Floor":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._thread.close()
