"""What is outside of the three cells: a host with many addresses and a name server, beside their etcd; and all calls there and
from there."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from lab.segment import OUTSIDE
from tests.testlib.cells import CellsUnderTest
from tests.testlib.dns.client import ask
from tests.testlib.dns.scripted_server import scripted_dns
from tests.testlib.node import Node
from tests.testlib.outside import served
from tests.testlib.patience import becomes, eventually
from tests.walk.calls import Call, Outcome
from tests.walk.held_streams import HeldStreams
from tests.walk.model import Model
from tests.walk.outside_ends import HOSTS, published_port
from tests.walk.outside_table import tried_outside
from tests.walk.place import Place, Way
from tests.walk.table import Table

PATIENCE = 60.0  # seconds


class Beyond:
    """`places` are the containers'."""

    def __init__(self, cells: CellsUnderTest, model: Model, places: Mapping[str, Place]) -> None:
        self._cells, self._model, self._places = cells, model, places
        self._held = HeldStreams(model.is_held, way=self._way, cells=model.cells_of)
        with ExitStack() as stack:
            outside = cells[1].outside
            stack.enter_context(served(outside))
            dns = stack.enter_context(scripted_dns(outside, at=OUTSIDE.ip))
            dns.records = {name: [f"A {address}"] for name, address in HOSTS.items()}
            self._place = Place(outside.pin, address=OUTSIDE.ip)
            stack.callback(self._place.close)
            stack.callback(self._held.close)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """It answers no more."""
        self._stack.close()

    def forget(self, number: int) -> None:
        """What happens to this cell now may end connections from and to it."""
        self._held.forget(number)

    def tried(self, calls: Mapping[Call, Outcome | None]) -> Table:
        """Make all calls. Before, each container that can asks for all hosts, and is told the addresses of its own alone."""
        for name in filter(self._model.asks, self._places):
            node = Node(self._places[name].pin, address=self._places[name].address)
            becomes(self._model.told(name), partial(_told, node), seconds=PATIENCE)
        return tried_outside({call: self._way(call) for call in calls}, calls)

    def judge_streams(self, expected: Mapping[Call, Outcome | None]) -> int:
        """Connections that were open before live on or are cut, with a receipt. The number of those that were cut."""
        ended = self._held.check(expected)
        for call in ended:
            eventually(partial(self._has_logged, self._receipt(call)), seconds=PATIENCE)
        return len(ended)

    def _way(self, call: Call) -> Way:
        if call.source in self._places:
            source = self._places[call.source]
            cell = self._cells[self._model.containers[call.source].cell]
            there = HOSTS.get(call.to, call.to)
            return Way(source, (there, call.port), self._place, arrives=there, seen=str(cell.host.address))
        to = self._places[call.to]
        cell = self._cells[self._model.containers[call.to].cell]
        target = str(cell.host.address), published_port(call.to, call.protocol, call.port)
        return Way(self._place, target, to, arrives=str(to.address), seen=call.source, source=call.source)

    def _receipt(self, call: Call) -> re.Pattern[str]:
        source, to = (
            str(self._places[each].address) if each in self._places else HOSTS.get(each, each)
            for each in (call.source, call.to)
        )
        return re.compile(rf'connections? of [^"]*{re.escape(source)}\b[^"]* to [^"]*{re.escape(to)}\b[^"]* tcp/{call.port}\b')

    def _has_logged(self, words: re.Pattern[str]) -> bool:
        return any(words.search(each.log) for each in self._cells)


def _told(node: Node) -> dict[str, list[str]]:
    return {name: ask(node, name).addresses for name in HOSTS}
