"""What asks the outside for names where no policy of a container here names any: it waits, and no first question is lost."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.cell import Part
from lab.segment import OUTSIDE
from tests.testlib.agents.vigilant import VigilantCell
from tests.testlib.cell import CellUnderTest
from tests.testlib.dns.client import Code, ask, ask_once, ask_over_tcp
from tests.testlib.dns.scripted_server import ScriptedDns, scripted_dns
from tests.testlib.patience import PATIENCE, becomes, eventually
from tests.testlib.status import problems

WEB, NAME, FAR = "acme/shop/web", "api.example.com", "198.18.9.1"
POLICY = json.dumps({"policies": [{"from": WEB, "to": {"host": NAME}, "tcp": 443}]})
OF_ANOTHER_APP = json.dumps({"policies": [{"from": "acme/shop/elsewhere", "to": {"host": NAME}, "tcp": 443}]})
LITTLE = 16 << 10  # kB


@pytest.fixture(scope="module")
def cell_overrides() -> tuple[str, ...]:
    return (f"dns.upstreams=['{OUTSIDE.ip}']",)


@pytest.fixture
def dns_outside(cell: CellUnderTest) -> Iterator[ScriptedDns]:
    with outside_of(cell) as made:
        yield made


@contextmanager
def outside_of(cell: CellUnderTest) -> Iterator[ScriptedDns]:
    """A name server that knows the name."""
    with scripted_dns(cell.outside, at=OUTSIDE.ip) as made:
        made.records, made.seconds = {NAME: [f"A {FAR}"]}, 60
        yield made


def waits(cell: CellUnderTest) -> bool:
    return b"doorway" in Path(f"/proc/{cell.pid('dns-hop')}/cmdline").read_bytes()


def kilobytes(cell: CellUnderTest) -> int:
    lines = Path(f"/proc/{cell.pid('dns-hop')}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_it_only_waits_until_a_policy_of_a_container_here_names_a_host(cell: CellUnderTest, dns_outside: ScriptedDns) -> None:
    web = cell.run_app(WEB)
    cell.policy_file("hosts.yaml", OF_ANOTHER_APP)
    eventually(lambda: cell.lab.part(Part("dns-hop")))  # a cell is well before it runs
    pid = cell.pid("dns-hop")
    becomes(True, lambda: waits(cell))
    assert kilobytes(cell) < LITTLE
    assert not cell.status().at("hosts").flag("wanted")
    assert [over(web, NAME).code for over in (ask, ask_over_tcp)] == [Code.NXDOMAIN] * 2
    assert dns_outside.asked == []
    cell.policy_file("hosts.yaml", POLICY)
    assert ask_once(web, NAME, seconds=PATIENCE).addresses == [FAR], "the first question, asked once"
    assert ask_over_tcp(web, NAME).addresses == [FAR]
    assert (waits(cell), problems(cell), cell.status().at("hosts").flag("wanted")) == (False, {}, True)
    cell.remove_policy_file("hosts.yaml")
    assert ask(web, NAME).code is Code.NXDOMAIN
    becomes(True, lambda: waits(cell))
    assert ask(web, NAME).code is Code.NXDOMAIN
    assert cell.pid("dns-hop") == pid


def test_a_container_that_comes_after_its_policy_loses_no_question_either(
    cell: CellUnderTest, dns_outside: ScriptedDns
) -> None:
    cell.policy_file("hosts.yaml", POLICY)
    becomes(True, lambda: waits(cell))
    web = cell.run_app(WEB)
    assert ask_once(web, NAME, seconds=PATIENCE).addresses == [FAR]


def test_what_another_program_does_to_its_call_is_mended(
    make_cell: Callable[..., CellUnderTest], cell_overrides: Sequence[str]
) -> None:
    cell = make_cell(*cell_overrides, kind=VigilantCell)
    with outside_of(cell):
        web = cell.run_app(WEB)
        cell.policy_file("hosts.yaml", POLICY)
        call = cell.lab.root / "run/cellnet/dns/hop.wanted"
        call.unlink()
        eventually(call.exists)
        assert ask(web, NAME).addresses == [FAR]
        cell.remove_policy_file("hosts.yaml")
        assert not call.exists()
