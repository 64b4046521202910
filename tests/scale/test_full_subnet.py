"""As many containers as a cell's /24 is made for, attached by many clients at once: each has its own of everything."""

import re
from collections.abc import Iterator, Sequence

import pytest

from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.containers import Container, ContainerPool, detach_all
from tests.testlib.footprint import expected, footprint, traces
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.resource_use import resident

MANY = 250
AGENT, ENVOY = 130 << 20, 100 << 20  # bytes of memory that they may have then
EVEN = ", ".join(f"crowd/there/crowd-{number}" for number in range(0, MANY, 2))


@pytest.fixture(scope="module")
def bare_cell() -> Iterator[CellUnderTest]:
    with running_cell() as made:
        yield made


@pytest.fixture(scope="module")
def crowd(bare_cell: CellUnderTest) -> Iterator[Sequence[Container]]:
    before = traces(bare_cell)
    attached = ContainerPool(bare_cell, MANY).attach()
    yield attached
    detach_all(attached)
    eventually(lambda: traces(bare_cell) == before)


@pytest.fixture
def cell(bare_cell: CellUnderTest, crowd: Sequence[Container]) -> Iterator[CellUnderTest]:
    """With the crowd, and without policies again after the test."""
    yield bare_cell
    bare_cell.close()
    for each in crowd:
        each.close()
    for path in bare_cell.lab.policies.iterdir():
        path.unlink()
    bare_cell.sync()


def test_each_of_250_has_an_address_of_its_own_and_all_are_listed(cell: CellUnderTest, crowd: Sequence[Container]) -> None:
    addresses = {each.address for each in crowd}
    assert len(addresses) == MANY
    listed = [line.split() for line in cell.cellnet("ps").out.splitlines()[1:]]
    assert {(name, address, tls) for name, _, _, address, *_, tls in listed} == {
        (each.name, str(each.address), "ready") for each in crowd
    }
    assert footprint(cell) == expected(cell)
    assert cell.status().at("envoy").text("listeners") == str(MANY)


def test_250_idle_containers_cost_no_more_memory_than_promised(cell: CellUnderTest) -> None:
    assert resident(cell.agent_pid) < AGENT
    assert resident(cell.envoy_pid) < ENVOY


def test_each_of_250_is_refused_and_reached_as_policies_have_it(cell: CellUnderTest, crowd: Sequence[Container]) -> None:
    caller, *others = crowd
    for each in others:
        each.listen(8080)
    assert {caller.connect(each, 8080) for each in others} == {Refused}
    cell.policy_file("crowd.yaml", "policies:\n- {from: crowd/there/crowd-0, to: crowd/there/*, tcp: [8080, 61443]}\n")
    assert {caller.connect(each, 8080) for each in others} == {Connected}
    assert {others[0].connect(each, 8080) for each in others[1:]} == {Refused}


def test_each_of_250_answers_on_61443_with_a_certificate_of_its_own(cell: CellUnderTest, crowd: Sequence[Container]) -> None:
    cell.policy_file("crowd.yaml", "policies:\n- {from: crowd/there/crowd-0, to: crowd/there/*, tcp: [61443]}\n")
    caller, *others = crowd
    context = caller.tls_context()
    serials = set()
    for each in others:
        with each.listen(8080) as listener, caller.dial_tls(each, context=context) as connection:
            listener.accept()[0].close()
            shown = connection.getpeercert()
            assert shown is not None
            serials.add(shown["serialNumber"])
    assert len(serials) == len(others)


def test_each_of_250_is_known_by_its_own_tag(cell: CellUnderTest, crowd: Sequence[Container]) -> None:
    cell.policy_file("crowd.yaml", f"policies:\n- {{from: [{EVEN}], to: crowd/there/crowd-1, tcp: [8080]}}\n")
    target = crowd[1]
    target.listen(8080)
    found = {int(re.sub(".*-", "", each.name)): each.connect(target, 8080) for each in crowd if each is not target}
    assert {number for number, outcome in found.items() if outcome is Connected} == set(range(0, MANY, 2))
    assert {outcome for number, outcome in found.items() if number % 2} == {Refused}
