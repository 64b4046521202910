"""Namespaces that somebody else made, put on the overlay through the control API; and what an attach may leave on the host."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

import pytest

from agent.client.answer import Fields
from agent.client.connection import attachment_address
from lab.cell import Part
from tests.testlib.cell import PATIENCE, CellUnderTest
from tests.testlib.instance import Instance
from tests.testlib.netns import Netns


class Attached(Instance):
    """An attachment without a process of ours. `path` is the namespace as it was named."""

    def __init__(self, cell: CellUnderTest, found: Fields, *, path: Path) -> None:
        super(Instance, self).__init__(Path(found.text("pin")), address=IPv4Address(found.text("address")))
        self.cell, self.path = cell, path
        self.name, self.interface = found.text("name"), found.text("interface")
        self.environment = found.mapping("environment")

    def stop(self) -> int:
        """Detach it."""
        self.close()
        self.cell.client.delete(attachment_address(self.name))
        return 0

    def exec(self, *argv: str, code: int | None = 0) -> str:
        """As Instance.exec."""
        done = self.cell.cellnet("exec", self.name, "--", *argv, code=code)
        return done.out + done.err


class Attach(Protocol):
    """What the fixture `attach` gives."""

    def __call__(self, app: str, *, to: Netns | Path | None = None, name: str | None = None,
                 ports: Sequence[int] = (), on: CellUnderTest | None = None) -> Attached: ...  # fmt: skip


@pytest.fixture
def attach(request: pytest.FixtureRequest, netns: Callable[[str], Netns]) -> Iterator[Attach]:
    """`attach("acme/shop/web")` puts a new namespace, or the one given as `to`, on the overlay; detached after the test.

    On the module's `cell`, unless another is given by `on`.
    """
    made: list[Attached] = []
    if "cell" in request.fixturenames:
        request.getfixturevalue("cell")  # made before us, so that it is there when we clean up

    def put(
        app: str, *, to: Netns | Path | None = None, name: str | None = None, ports: Sequence[int] = (),
        on: CellUnderTest | None = None,
    ) -> Attached:  # fmt: skip
        cell = on or request.getfixturevalue("cell")
        known = name or app.rpartition("/")[2]
        place = to or netns(known)
        path = place.path if isinstance(place, Netns) else place
        body = {"app": app, "netns": str(path), "ports": tuple(ports)}
        made.append(Attached(cell, cell.client.ask("PUT", attachment_address(known), body).fields, path=path))
        return made[-1]

    yield put
    for cell in {each.cell for each in made}:
        cell.start()
    for each in made:
        each.stop()


def traces(cell: CellUnderTest) -> dict[str, object]:
    """All that an attachment leaves on the cell, by kind."""
    host, run = cell.host, cell.lab.root / "run/cellnet"
    with closing(sqlite3.connect(f"file:{cell.lab.root}/var/lib/cellnet/cellnet.db?mode=ro", uri=True)) as ledger:
        held = ledger.execute("SELECT name, phase FROM attachments ORDER BY name").fetchall()
    return {
        "ps": cell.attachments(),
        "ledger": held,
        "links": sorted(host.run("ls", "/proc/sys/net/ipv4/conf").split()),
        "routes": host.run("ip", "-4", "route", "show", "table", "all"),
        "neighbours": host.run("ip", "-4", "neigh", "show", "nud", "permanent"),
        "rules": [line for line in cell.rules() if line[:1] in "-:*"],
        "sets": host.run("ipset", "save"),
        "pins": sorted(os.listdir(run / "netns")),
        "mounts": [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(run) in line],
        "files": sorted(str(path.relative_to(run)) for path in (run / "identity").rglob("*")),
        "envoy": cell.lab.part(Part.ENVOY) is not None,  # in the cell's namespace, not stuck in a container's
        "listeners": cell.status().at("envoy").text("listeners"),
    }


def interior(place: Netns) -> dict[str, str]:
    """All that an attachment changes in a namespace, by kind."""
    asked = {
        "links": ("ls", "/proc/sys/net/ipv4/conf"),
        "addresses": ("ip", "-4", "-o", "addr"),
        "rules": ("ip", "rule"),
        "routes": ("ip", "-4", "route", "show", "table", "all"),
        "neighbours": ("ip", "-4", "neigh", "show", "nud", "permanent"),
        "sysctls": ("sysctl", "net.ipv4.tcp_fwmark_accept", "net.ipv4.fwmark_reflect"),
    }
    return {kind: place.run(*argv) for kind, argv in asked.items()}


@contextmanager
def nothing_left(cell: CellUnderTest, *places: Netns, swept: bool = False) -> Iterator[None]:
    """Compare the cell and some namespaces before and after; at once, or with `swept` within a few seconds."""
    before = traces(cell), [interior(each) for each in places]
    yield
    until = time.monotonic() + PATIENCE * swept
    while time.monotonic() < until and traces(cell) != before[0]:
        time.sleep(0.05)
    after = traces(cell), [interior(each) for each in places]
    changed = {kind: (before[0][kind], value) for kind, value in after[0].items() if value != before[0][kind]}
    assert not changed, f"left on the cell: {changed}"
    assert after[1] == before[1], f"left in the namespaces: {after[1]} instead of {before[1]}"
