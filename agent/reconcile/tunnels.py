"""Whether the tunnels to the other cells answer. Beside the loop: it changes nothing, it tells."""

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from agent import log
from agent.model.cell import Cell
from dataplane.probe import Answer, probe
from dataplane.state import HostState

PERIOD = 10.0  # seconds between two questions to one peer
RATE = 20.0  # peers asked in a second, at most: of a thousand, each is asked once in 50 s
PATIENCE = 1.0  # seconds
DOUBTS = 2  # answers that must be missing, one after the other, before anybody is told


class Tunnels:
    """`applied` is what is in the kernel by now, `peers` whom the store knows."""

    def __init__(self, applied: Callable[[], HostState | None], peers: Callable[[], tuple[Cell, ...]]) -> None:
        self._applied = applied
        self._peers = peers
        self._answers: dict[IPv4Address, Answer] = {}
        self._log = log.get("tunnels")

    @property
    def answers(self) -> Mapping[IPv4Address, Answer]:
        """By the peer's VTEP; one that was not asked yet has none."""
        return self._answers

    def failing(self) -> tuple[tuple[Cell, Answer], ...]:
        """Peers whose agents are alive and whose tunnels do not carry what they should."""
        found = ((each, self._answers.get(vtep(each), Answer.ALL)) for each in self._peers() if each.alive_since is not None)
        return tuple((each, answer) for each, answer in found if answer is not Answer.ALL)

    async def ask_for_ever(self) -> None:
        """Runs until cancelled."""
        while True:
            state, peers = self._applied(), self._peers()
            known = {vtep(each) for each in peers}
            for gone in self._answers.keys() - known:
                del self._answers[gone]
            for each in peers:
                if state is not None and each.record.subnet in state.peers:
                    await self._ask(each, mtu=state.mtu)
                await asyncio.sleep(1 / RATE)
            await asyncio.sleep(max(PERIOD - len(peers) / RATE, 1.0))

    async def _ask(self, peer: Cell, *, mtu: int) -> None:
        address = vtep(peer)
        before = self._answers.get(address)
        for _ in range(DOUBTS):
            answer = await probe(address, mtu=mtu, seconds=PATIENCE)
            if answer is Answer.ALL or before is answer:
                break
        self._answers[address] = answer
        if answer is not (before or Answer.ALL):
            self._log.info("tunnel", peer=peer.record.name, vtep=str(address), answer=answer.value)


def vtep(cell: Cell) -> IPv4Address:
    """Where a cell's tunnel ends in the overlay."""
    return cell.record.subnet.network_address
