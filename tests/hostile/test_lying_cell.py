"""A cell in the wrong hands, against one in strict mode: its root has the cell's CA, writes its record, and forges tags.

What bounds it is what bounds its packets: a container of another cell is reached from addresses of its own part alone.
"""

import contextlib
import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ca.authority import Authority
from ca.disk import load
from ca.leaf import Issued, issue_leaf
from tests.testlib.attacks.attacker import capture
from tests.testlib.attacks.tunnel_caller import Answer, TunnelCaller
from tests.testlib.cells import CellsUnderTest, running_cells
from tests.testlib.certificates import TRUST_DOMAIN, identity, make_ca, server_context
from tests.testlib.containers import ServingContainer
from tests.testlib.instance import is_listening
from tests.testlib.node import Refused
from tests.testlib.patience import eventually
from tests.testlib.status import listed
from tests.testlib.tunnels.mutual_tls import INBOUND

WEB, API, ROGUE = "acme/shop/web", "acme/shop/api", "evil/shop/rogue"
RECORD = "/cellnet/v1/cells/cell-2/record"
ELSEWHERE = "10.255.200.9"
REFUSED_BY_ENVOY = Answer("403")


@dataclass
class LyingCell:
    """`web` and `api` are on cell 1, `rogue` on cell 2, whose agent is dead. web may reach port 8080 of both others."""

    cells: CellsUnderTest
    web: ServingContainer
    api: ServingContainer
    rogue: ServingContainer
    webs_tag: str = field(init=False)
    own_tag: str = field(init=False)

    def __post_init__(self) -> None:
        self.webs_tag, self.own_tag = mark_of(self.web), mark_of(self.rogue)

    @property
    def authority(self) -> Authority:
        """What cell 2 vouches with."""
        folder = self.cells[2].lab.root / "var/lib/cellnet/ca"
        return load(folder, trust_domain=TRUST_DOMAIN, now=datetime.now(UTC)).cell

    def signed(self, app: str, address: IPv4Address | str, *, by: Authority | None = None) -> Issued:
        """A leaf of this app at this address, by cell 2's CA."""
        name = identity(app, address=str(address))
        return issue_leaf(by or self.authority, identity=name, now=datetime.now(UTC), lifetime=timedelta(hours=1))

    @property
    def own(self) -> Issued:
        """The leaf that rogue has got."""
        return Issued(*(Path(self.rogue.environment[f"CF_INSTANCE_{each}"]).read_bytes() for each in ("CERT", "KEY")))

    def tag(self, mark: str) -> None:
        """Have rogue's packets carry this one."""
        self.cells[2].host.run("ipset", "-exist", "add", "cellnet-tags", str(self.rogue.address), "skbmark", mark)

    def calls_api(self, leaf: Issued) -> Answer:
        """What rogue gets for a stream to api's port 8080."""
        bundle = Path(self.rogue.environment["CF_INSTANCE_CA"]).read_bytes()
        return TunnelCaller(self.rogue.pin, bundle, leaf=leaf, address=self.api.address).connects(f"{self.api.address}:8080")


def mark_of(container: ServingContainer) -> str:
    """As its own cell has it."""
    listing = container.cell.host.run("ipset", "list", "cellnet-tags")
    found = re.search(rf"^{container.address} skbmark (\S+)", listing, re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def scene() -> Iterator[LyingCell]:
    with running_cells(2, "tls.mtls=strict") as cells, contextlib.ExitStack() as stack:

        def placed(number: int, app: str) -> ServingContainer:
            made = ServingContainer(cells[number], app, name=None, ports=(8080,))
            stack.callback(made.end)
            return made

        made = LyingCell(cells, placed(1, WEB), placed(1, API), placed(2, ROGUE))
        cells.allow(WEB, API, "tcp/8080")
        cells.allow(WEB, ROGUE, "tcp/8080")
        cells[2].kill("agent")
        yield made


def test_neither_its_tag_nor_its_certificate_makes_a_container_another_app(scene: LyingCell) -> None:
    as_web = scene.signed(WEB, scene.rogue.address)
    scene.tag(scene.own_tag)
    assert scene.rogue.connect(scene.api, INBOUND) is Refused
    assert scene.calls_api(as_web) == Answer("")
    scene.tag(scene.webs_tag)
    assert scene.calls_api(scene.own) == REFUSED_BY_ENVOY


def test_at_addresses_of_its_own_a_cell_can_be_any_app(scene: LyingCell) -> None:
    """What a taken-over cell can do, as docs/security.md says."""
    scene.tag(scene.webs_tag)
    assert scene.calls_api(scene.signed(WEB, scene.rogue.address)) == Answer("200", b"hello")


def test_a_certificate_for_an_address_of_another_cell_is_worth_nothing_from_the_own_one(scene: LyingCell) -> None:
    scene.tag(scene.webs_tag)
    assert scene.calls_api(scene.signed(WEB, scene.web.address)) == REFUSED_BY_ENVOY
    assert scene.calls_api(scene.signed(WEB, ELSEWHERE)) == REFUSED_BY_ENVOY


def test_the_right_tag_with_a_certificate_of_another_root_is_refused(scene: LyingCell) -> None:
    scene.tag(scene.webs_tag)
    assert scene.calls_api(scene.signed(WEB, scene.rogue.address, by=make_ca().cell)) == Answer("")


@pytest.mark.parametrize("said", ["none", None], ids=["says none", "says nothing"])
def test_a_record_that_says_that_a_cell_takes_no_tunnels_has_it_sent_nothing_in_plain(
    scene: LyingCell, said: str | None
) -> None:
    etcd, words = scene.cells.etcd, b"for rogue alone"
    record = json.loads(etcd.try_ctl("get", RECORD, "--print-value-only").out)
    record.pop("mtls", None)
    if said:
        record["mtls"] = said
    assert etcd.try_ctl("put", RECORD, json.dumps(record)).code == 0
    eventually(lambda: listed(scene.cells[1])["cell-2"]["mtls"] == "none")
    scene.cells[1].sync()
    with capture(scene.cells[2].host, "eth0") as listening, scene.web.dial(scene.rogue, 8080) as made:
        made.sendall(words)
        assert made.recv(100) == words
        frames = [bytes(each) for each in listening.pending()]
    assert frames
    assert not [each for each in frames if words in each]
    assert scene.rogue.callers(8080)[-1] == str(scene.web.address)


# in the place of its Envoy


@pytest.fixture(scope="module")
def server(scene: LyingCell) -> socket.socket:
    """Where rogue's end of tunnels was."""
    scene.cells[2].kill("envoy")
    eventually(lambda: not is_listening(scene.rogue.pin, INBOUND))
    return scene.rogue.listen(INBOUND)


def hears(scene: LyingCell, server: socket.socket, leaf: Issued) -> bytes:
    """What a server with this certificate gets to hear of a call of web's, which is closed unless it answers."""
    with scene.web.dial(scene.rogue, 8080) as made:
        made.sendall(b"for rogue alone")
        taken, _ = server.accept()
        taken.settimeout(5.0)
        with taken, contextlib.suppress(ssl.SSLError, ConnectionError):
            return server_context(leaf).wrap_socket(taken, server_side=True).recv(1000)
        with contextlib.suppress(ConnectionError):
            assert made.recv(10) == b""
    return b""


def test_a_server_is_called_only_with_a_certificate_of_the_trusted_roots_for_its_own_address(
    scene: LyingCell, server: socket.socket
) -> None:
    address = scene.rogue.address
    assert hears(scene, server, scene.signed(ROGUE, address)).startswith(b"PRI * HTTP/2.0")
    assert hears(scene, server, scene.signed(ROGUE, address, by=make_ca().cell)) == b""
    assert hears(scene, server, scene.signed(ROGUE, scene.api.address)) == b""
    assert hears(scene, server, scene.signed(ROGUE, ELSEWHERE)) == b""
