"""The outside through the troubles of a host: parts that are killed, rules that another program flushes or loads, a new boot.
Networks, hosts, published ports and limits together, on each backend."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.connections import echoed, is_alive
from tests.testlib.dns.client import ask
from tests.testlib.dns.scripted_server import scripted_dns
from tests.testlib.failures import boot_anew, foreign_change
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Node, Outcome, Refused, connect_at_once, pair
from tests.testlib.oracle import Rule
from tests.testlib.outside import caller, served
from tests.testlib.patience import becomes

WEB, JOB, FILE, NAME, PORT = "acme/shop/web", "acme/shop/job", "outside.yaml", "api.example.com", 7000
HOST, NO_HOST = "198.19.200.1", "198.19.200.2"
NEAR, FAR, KNOWN, STRANGER = "198.18.2.1", "198.18.2.200", "198.19.2.1", "198.19.2.200"
RULES: tuple[Rule, ...] = (  # of more networks than have a rule each
    {"from": [WEB, JOB], "to": {"cidr": [f"198.18.{number}.0/25" for number in range(0, 40, 2)]}, "tcp": ["443", "5000"]},
    {"from": WEB, "to": {"host": NAME}, "tcp": ["443", "5001"]},
    {"from": {"cidr": [f"198.19.{number}.0/25" for number in range(0, 40, 2)]}, "to": WEB, "tcp": ["8080"]},
)
OPEN: tuple[Rule, ...] = (
    {"from": "acme/*/*", "to": {"cidr": "0.0.0.0/0"}, "tcp": "any"},
    {"from": {"cidr": "0.0.0.0/0"}, "to": WEB, "tcp": "any"},
)
AS_IT_SHOULD_BE = {
    "a network": Connected, "beside it": Refused, "a host": Connected, "another": Refused, "a caller": Connected,
    "a stranger": Refused, "over a limit": Refused,
}  # fmt: skip


@pytest.fixture(scope="module", params=["nft", "legacy"])
def kept(request: pytest.FixtureRequest) -> Iterator[CellUnderTest]:
    with running_cell(f"firewall.backend={request.param}", f"dns.upstreams=['{OUTSIDE.ip}']") as made:
        yield made


@pytest.fixture
def cell(kept: CellUnderTest) -> Iterator[CellUnderTest]:
    yield kept
    kept.tidy()


@pytest.fixture
def outside(cell: CellUnderTest) -> Iterator[None]:
    with outside_of(cell):
        yield


@contextmanager
def outside_of(cell: CellUnderTest) -> Iterator[None]:
    """It answers, and its name server."""
    with served(cell.outside, tcp=(443,)), scripted_dns(cell.outside, at=OUTSIDE.ip) as dns:
        dns.records = {NAME: [f"A {HOST}"]}
        yield


@dataclass(frozen=True)
class Apps:
    """`web` publishes its port; `job` may have one connection open."""

    cell: CellUnderTest
    web: Instance
    job: Instance

    def found(self) -> dict[str, Outcome]:
        """What comes of calls now."""
        known, stranger = (caller(self.cell.outside, each) for each in (KNOWN, STRANGER))
        return {
            "a network": connect_at_once(self.web, NEAR, 443),
            "beside it": connect_at_once(self.web, FAR, 443),
            "a host": connect_at_once(self.web, HOST, 443),
            "another": connect_at_once(self.web, NO_HOST, 443),
            "a caller": connect_at_once(known, self.cell.host, PORT),
            "a stranger": connect_at_once(stranger, self.cell.host, PORT),
            "over a limit": self._second(),
        }

    def _second(self) -> Outcome:
        held = self.job.dial(NEAR, 443)
        try:
            return connect_at_once(self.job, NEAR, 443)
        finally:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            held.close()


def apps(cell: CellUnderTest) -> Apps:
    """With the policies; what is known of the name is opened."""
    web = cell.run_app(WEB, server=True, port=8080, options=[f"--publish={PORT}:8080"])
    made = Apps(cell, web, cell.run_app(JOB, options=["--limit-connections=1"]))
    follow(cell, RULES)
    assert ask(web, NAME).addresses == [HOST]
    return made


def follow(cell: CellUnderTest, rules: tuple[Rule, ...]) -> None:
    cell.policy_file(FILE, json.dumps({"policies": rules}))


class Live:
    """A connection of each kind."""

    def __init__(self, made: Apps) -> None:
        near, host = (Node(made.cell.outside.pin, address=IPv4Address(each)) for each in (NEAR, HOST))
        self._out = pair(made.web, near, 5000), pair(made.web, host, 5001)
        self._within = caller(made.cell.outside, KNOWN).dial(made.cell.host, PORT)
        assert self.goes_on()

    def goes_on(self) -> bool:
        """Whether each carries bytes both ways."""
        return all(is_alive(*each) for each in self._out) and echoed(self._within)


def rules_and_sets(cell: CellUnderTest, backend: str) -> list[str]:
    """All that decides, in no order; of sets what is in them, without what remains of its time."""
    rules = [line for line in cell.host.run(f"iptables-{backend}-save").splitlines() if line.startswith("-A")]
    sets = [line.partition(" timeout")[0] for line in cell.host.run("ipset", "save").splitlines()]
    return sorted((*rules, *sets))


def backend_of(cell: CellUnderTest) -> str:
    return cell.status().at("firewall").text("backend")


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("part", ["agent", "up"])
def test_all_of_it_holds_without_a_part_and_with_the_next(cell: CellUnderTest, part: str) -> None:
    made = apps(cell)
    live = Live(made)
    cell.kill(part)
    assert made.found() == AS_IT_SHOULD_BE
    assert live.goes_on()
    cell.start()
    assert made.found() == AS_IT_SHOULD_BE
    assert live.goes_on()
    assert cell.status().text("repairs") == "0"
    assert f"{PORT}:8080" in cell.cellnet("ps").out


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("agent", [True, False], ids=["at once", "by the next agent"])
def test_what_is_flushed_of_rules_and_sets_is_put_back(cell: CellUnderTest, agent: bool) -> None:
    """Chains and sets of all programs alike, those with known addresses of hosts among them."""
    made, backend = apps(cell), backend_of(cell)
    live, before = Live(made), rules_and_sets(cell, backend)
    if not agent:
        cell.kill("agent")
    for words in ("-F", "-X"):
        for table in ("raw", "mangle", "nat", "filter"):
            cell.host.run(f"iptables-{backend}", "-t", table, words, code=None)  # some are back already
    cell.host.run("ipset", "flush")
    cell.host.run("ipset", "destroy", code=None)
    if agent:
        foreign_change(cell.host)
    else:
        cell.start()
    becomes(before, lambda: rules_and_sets(cell, backend))  # what leaves meanwhile leaves with its own address
    assert made.found() == AS_IT_SHOULD_BE
    assert live.goes_on()


@pytest.mark.usefixtures("outside")
def test_rules_that_a_reload_brings_back_open_nothing_for_long(cell: CellUnderTest) -> None:
    """Saved when policies opened everything, as a host's own firewall may have them on its disk."""
    made, backend = apps(cell), backend_of(cell)
    follow(cell, OPEN)
    assert connect_at_once(made.web, FAR, 443) is Connected
    saved = cell.lab.root / "saved.rules"
    saved.write_text(cell.host.run(f"iptables-{backend}-save"))
    follow(cell, RULES)
    live, before = Live(made), rules_and_sets(cell, backend)
    cell.host.run(f"iptables-{backend}-restore", str(saved))
    foreign_change(cell.host)
    becomes(before, lambda: rules_and_sets(cell, backend))
    assert made.found() == AS_IT_SHOULD_BE
    assert live.goes_on()


def test_after_a_new_boot_it_is_as_before_once_the_apps_run_again(cell: CellUnderTest) -> None:
    with outside_of(cell):
        assert apps(cell).found() == AS_IT_SHOULD_BE
    boot_anew(cell)
    with outside_of(cell):
        assert cell.attachments() == []
        with cell.host.listen(PORT):
            assert caller(cell.outside, STRANGER).connect(cell.host, PORT) is Connected, "the host's own"
        other = cell.run_app("acme/shop/other")
        assert other.connect(NEAR, 443) is Refused, "whatever its address was before"
        made = apps(cell)
        assert made.found() == AS_IT_SHOULD_BE
        assert Live(made).goes_on()
