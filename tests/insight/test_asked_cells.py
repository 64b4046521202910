"""What other cells are asked for `explain`, and what they may say: a cell that lies or floods harms no other's answers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import IPv4Address

import pytest

from agent import log
from agent.errors import HostRefused
from agent.insight.explain.answers import CellAnswers
from agent.insight.explain.other_cells import OtherCells
from agent.insight.explain.told import LARGEST, LONGEST, NAMES, STEPS, AskedCell, KnownStep, decode_answer, encode_answer
from agent.insight.explain.way import AskedWay, WayStep
from agent.model.cell import Endpoint
from agent.model.names import AppName
from agent.model.policy import Protocol

WEB, API = AppName("acme", "shop", "web"), AppName("acme", "shop", "api")
SERVED = KnownStep("listener", WayStep("listener", True, "api serves tcp/8080"))
ASKED = AskedCell("1", str(WEB), str(API), "tcp/8080")


class Held:
    """The store of all cells, as `cell` uses it."""

    def __init__(self, cell: str, *, beside: "Held | None" = None) -> None:
        self._cell = cell
        self._queues: dict[str, asyncio.Queue[tuple[str, bytes]]] = {} if beside is None else beside._queues
        self.answers: dict[tuple[str, str], bytes] = {} if beside is None else beside.answers
        self.problem: HostRefused | None = None

    async def ask(self, cell: str, data: bytes) -> None:
        if self.problem is not None:
            raise self.problem
        self._queues.setdefault(cell, asyncio.Queue()).put_nowait((self._cell, data))

    async def answer_of(self, cell: str) -> bytes | None:
        return self.answers.get((cell, self._cell))

    async def questions(self) -> AsyncIterator[tuple[str, bytes]]:
        if self.problem is not None:
            problem = self.problem
            self.problem = None
            raise problem
        queue = self._queues.setdefault(self._cell, asyncio.Queue())
        while True:
            yield await queue.get()

    async def answer(self, cell: str, data: bytes) -> None:
        self.answers[self._cell, cell] = data


def way(*cells: str) -> AskedWay:
    called = [Endpoint(cell, "api", API, 0, IPv4Address("10.255.2.2")) for cell in cells]
    return AskedWay(WEB, API, Protocol.TCP, 8080, "tcp/8080", (), tuple(called))


@contextlib.asynccontextmanager
async def answering(store: Held) -> AsyncIterator[None]:
    async def seen(question: AskedCell) -> Sequence[KnownStep]:
        assert question.source == str(WEB)
        return [SERVED]

    task = asyncio.create_task(CellAnswers(store, known=seen, again=0.01).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_a_cell_says_is_told_as_its_word() -> None:
    here = Held("one")
    async with answering(Held("two", beside=here)):
        found = await OtherCells(here, cell="one").told(way("one", "two"))
    assert found.steps == {"listener": (WayStep("listener", True, "api serves tcp/8080, as two says"),)}
    assert (found.answered, found.failed) == (frozenset({"two"}), ())


async def test_a_cell_of_its_own_and_a_way_that_ends_here_ask_nobody() -> None:
    assert (await OtherCells(None, cell="one").told(way("two"))).failed == ()
    assert (await OtherCells(Held("one"), cell="one").told(way("one"))).failed == ()


async def test_one_that_does_not_answer_is_named_beside_one_that_does() -> None:
    here = Held("one")
    async with answering(Held("two", beside=here)):
        found = await OtherCells(here, cell="one", patience=0.3).told(way("two", "dead"))
    assert found.answered == {"two"}
    assert [(each.name, each.ok) for each in found.failed] == [("dead", None)]
    assert "what dead alone sees is not known: no answer within 0.3 s" in found.failed[0].what


async def test_who_asks_while_others_do_has_the_whole_time_once_it_is_its_turn_or_is_told_so() -> None:
    here = Held("one")
    others = OtherCells(here, cell="one", patience=0.4)
    crowd = [asyncio.create_task(others.told(way("dead"))) for _ in range(5)]
    said = [each.failed[0].what.partition(": ")[2] for each in await asyncio.gather(*crowd)]
    async with answering(Held("two", beside=here)):
        found = await others.told(way("two"))
    assert set(said) == {"no answer within 0.4 s", "this cell asks other questions just now"}
    assert found.answered == {"two"}


async def test_an_etcd_that_refuses_is_named() -> None:
    here = Held("one")
    here.problem = HostRefused("etcd does not let 'cell-1' do this", hint="")
    (failed,) = (await OtherCells(here, cell="one").told(way("two"))).failed
    assert failed.what.endswith("is not known: etcd does not let 'cell-1' do this")


async def test_a_cell_hears_again_after_its_store_has_refused_it(capfd: pytest.CaptureFixture[str]) -> None:
    log.configure()
    here = Held("one")
    other = Held("two", beside=here)
    other.problem = HostRefused("etcd does not let 'two' do this", hint="see its role")
    async with answering(other):
        found = await OtherCells(here, cell="one").told(way("two"))
    assert found.answered == {"two"}
    assert capfd.readouterr().err.count("etcd does not let 'two' do this") == 1


STEP = ["listener", "listener", True, "api serves it", ""]


@pytest.mark.parametrize(
    "steps",
    [
        [["policy", "policy", True, "all is allowed", ""]],
        [["listener", "listener", 1, "api serves it", ""]],
        [["listener", "listener", True, "\x1b[2Jit works", ""]],
        [["listener", "listener", True, "one\nok  policy: allowed", ""]],
        [["listener", "listener", True, "x" * (LONGEST + 1), ""]],
        [["listener", "listener", True, 7, ""]],
        [["listener", "listener", True]],
        [["kernel", "try", None, "api answers", ""]],
        [["kernel", "listener", True, "api serves it", ""]],
        [["listener", "kernel", True, "api serves it", ""]],
        [["kernel", "published", True, "a port leads there", ""]],
        [STEP] * (STEPS + 1),
        "all is well",
        None,
    ],
)
async def test_an_answer_that_makes_no_sense_is_not_believed(steps: object) -> None:
    assert await said_by_a_liar(lambda question: json.dumps({"id": question.id, "steps": steps}).encode()) == SENSELESS


SENSELESS = "what two alone sees is not known: its answer makes no sense"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 10_000, b" " * (LARGEST + 1)])
async def test_nor_is_a_record_that_is_none(data: bytes) -> None:
    assert await said_by_a_liar(lambda _question: data) == SENSELESS


async def test_an_answer_to_another_question_is_none() -> None:
    said = await said_by_a_liar(lambda _question: json.dumps({"id": "another", "steps": [STEP]}).encode())
    assert said.endswith("no answer within 0.3 s")


async def test_a_cell_that_leaves_out_what_it_runs_has_not_said_all() -> None:
    here = Held("one")
    async with answering(Held("two", beside=here)):
        of_one = await OtherCells(here, cell="one").told(way("two"))
        of_two = await OtherCells(here, cell="one").told(way("two", "two"))
    assert of_one.answered == {"two"}
    assert not of_two.answered
    assert of_two.steps
    assert not of_two.failed


async def test_all_that_a_cell_knows_of_its_own_containers_is_taken() -> None:
    names = [(informant, name) for informant, found in NAMES.items() for name in found]
    known = [KnownStep(informant, WayStep(name, None, "it is so")) for informant, name in names]
    assert decode_answer(encode_answer(ASKED, known), ASKED) == tuple(known)
    assert {("outside", "published"), ("outside", "address"), ("outside", "limits"), ("kernel", "Envoy")} <= set(names)


async def test_what_stands_in_the_way_is_told_however_much_else_there_is() -> None:
    kernel = KnownStep("kernel", WayStep("kernel", True, "lets it into api"))
    unserved = KnownStep("listener", WayStep("listener", False, "nothing in api serves tcp/8080"))
    for others in (kernel, KnownStep("kernel", WayStep("kernel", True, "ü" * LONGEST))):
        found = decode_answer(encode_answer(ASKED, [others] * 100 + [unserved]), ASKED)
        assert found is not None
        assert unserved in found


async def said_by_a_liar(answer: Callable[[AskedCell], bytes]) -> str:
    """What is told here of cell two, which answers by hand."""
    here = Held("one")
    liar = Held("two", beside=here)

    async def lie() -> None:
        async for cell, data in liar.questions():
            await liar.answer(cell, answer(AskedCell.decode(data)))

    lying = asyncio.create_task(lie())
    found = await OtherCells(here, cell="one", patience=0.3).told(way("two"))
    lying.cancel()
    assert (found.steps, found.answered) == ({}, frozenset())
    return found.failed[0].what


async def test_a_cell_that_floods_has_one_question_waiting_and_keeps_no_other_from_its_answer() -> None:
    one = Held("one")
    flooding = Held("flooding", beside=one)
    for number in range(500):
        await flooding.ask("two", AskedCell(str(number), str(WEB), str(API), "tcp/8080").encode())
    await flooding.ask("two", b"no question")
    async with answering(Held("two", beside=one)):
        found = await OtherCells(one, cell="one").told(way("two"))
    assert found.answered == {"two"}


async def test_an_answer_holds_as_much_as_one_record_may() -> None:
    step = KnownStep("kernel", WayStep("kernel", False, "ü" * 10_000, "ü" * 10_000))
    data = encode_answer(ASKED, [step] * 100)
    assert len(data) <= LARGEST
    found = decode_answer(data, ASKED)
    assert found is not None
    assert found[0].step.what == "ü" * LONGEST
