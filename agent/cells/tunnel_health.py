"""Whether the tunnels to the other cells answer. Beside the loop: it reports, and changes nothing."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network

from agent import log
from agent.model.cell import Cell
from agent.model.status import Part, Problem, moment
from agent.wording import listed
from dataplane.state import HostState
from dataplane.tunnel_probe import TunnelAnswer, probe

PERIOD = 10.0  # seconds between two questions to one peer
RATE = 20  # peers asked in a second, at most, and at once: of a thousand, each is asked once in 50 s, or 100 s if none answers
PATIENCE = 1.0  # seconds
MISSES = 2  # answers that must be missing, one after the other, before it is reported

FAILURES = {
    TunnelAnswer.NONE: (
        "without an answer, though their agents are alive",
        "UDP to overlay.port (4789) must pass between cells, both ways; overlay.port and overlay.vni are the same on all",
    ),
    TunnelAnswer.ONLY_SMALL: (
        "that lose packets of full size",
        "the network between the cells carries less than the MTU of underlay.interface says: set overlay.mtu on all cells",
    ),
}


@dataclass(frozen=True, slots=True)
class PeerRow:
    """Another cell: its part of the overlay, its address in the underlay, since when its agent is alive (None while it is not),
    what its end of the tunnel answered last (None if it was not asked yet), and whether it is drained."""

    name: str
    subnet: IPv4Network
    underlay: IPv4Address
    alive_since: datetime | None
    tunnel: TunnelAnswer | None
    drained: bool = False


class TunnelHealth(Part):
    """`applied` is what is in the kernel by now, `peers` those that the store knows."""

    def __init__(self, applied: Callable[[], HostState | None], peers: Callable[[], tuple[Cell, ...]]) -> None:
        self._applied = applied
        self._peers = peers
        self.answers: dict[IPv4Address, TunnelAnswer] = {}  # by the peer's VTEP; one that was not asked yet has none
        self._log = log.get("tunnels")

    def problems(self) -> Iterator[Problem]:
        """One for each way to fail, however many peers fail so: it is one network that they have in common."""
        alive = [each for each in self._peers() if each.alive_since is not None]
        for answer, (what, hint) in FAILURES.items():
            failing = [each.record for each in alive if self.answers.get(vtep(each)) is answer]
            if failing:
                names = [f"{each.name} ({each.underlay})" for each in failing]
                yield Problem("overlay", f"tunnels {what}: {listed(names)}", hint)

    async def rows(self) -> Mapping[str, object]:
        """`peers`."""
        return {"peers": self.peers()}

    def peers(self) -> tuple[PeerRow, ...]:
        """All others, as they are now."""
        return tuple(map(self._row, self._peers()))

    def _row(self, peer: Cell) -> PeerRow:
        record, answer = peer.record, self.answers.get(vtep(peer))
        since = moment(peer.alive_since)
        return PeerRow(record.name, record.subnet, record.underlay, since, tunnel=answer, drained=record.drained)

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            peers = self._peers()
            for gone in self.answers.keys() - {vtep(each) for each in peers}:
                del self.answers[gone]
            for start in range(0, len(peers), RATE):
                some = peers[start : start + RATE]
                await self._ask_all(some)
                await asyncio.sleep(len(some) / RATE)
            await asyncio.sleep(max(PERIOD - len(peers) / RATE, 1.0))

    async def _ask_all(self, peers: tuple[Cell, ...]) -> None:
        """At once: each that is silent takes seconds, and there may be hundreds."""
        state = self._applied()
        if state is not None:
            mtu, known = state.mtu, state.peers
            await asyncio.gather(*(self._ask(each, mtu=mtu) for each in peers if each.record.subnet in known))

    async def _ask(self, peer: Cell, *, mtu: int) -> None:
        address = vtep(peer)
        before = self.answers.get(address)
        try:
            for _ in range(MISSES):
                answer = await probe(address, mtu=mtu, seconds=PATIENCE)
                if answer is TunnelAnswer.ALL or before is answer:
                    break
        except OSError:  # no descriptor left: not the peer's fault, and reported elsewhere
            return
        self.answers[address] = answer
        if answer is not (before or TunnelAnswer.ALL):
            self._log.info("tunnel", peer=peer.record.name, vtep=str(address), answer=answer.value)


def vtep(cell: Cell) -> IPv4Address:
    """Where a cell's tunnel ends in the overlay."""
    return cell.record.subnet.network_address
