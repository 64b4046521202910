"""Whether dnsmasq runs, answers, and goes by the folder of names.

It is asked for a name that was written into the folder a moment ago, so that its answer shows that it follows the folder, too.
A dnsmasq that does not (its folder was replaced by another program) is asked to end, and its supervisor starts it again: names
that have gone would go on being answered, with addresses that may be others' by now. One that was silent for a while may have
missed changes of the folder (the kernel keeps 16,384 of them), and is told to read all of it. One that is only stopped goes on
where it was.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from agent import log
from agent.complaint import Complaint
from agent.dns.process import DnsmasqProcess
from agent.dns.upstreams import Choice
from agent.model.status import Part, Problem, as_problems
from dataplane.dns.probe import PROBED, is_answer, question, says

PORT = 53
EVERY, SOON = 2.0, 0.1  # seconds between questions: where it answers, and where it does not
TIMEOUT = 2.0
TRIES = 3  # times in a row that it does not know the new name: it may be reading thousands
MISSED = 5.0  # seconds of silence in which changes of the folder may have been more than the kernel keeps
SPACING = 1.0  # seconds between looks for what keeps it from starting
LARGEST = 512
NOT_FOLLOWING = "dnsmasq does not follow the folder of names: it answers as the folder was", "it is ended, and started again"


class DnsReply(Enum):
    """What came of a question."""

    NONE = "none"
    OTHER = "another answer"
    RIGHT = "the answer that the folder has"


@dataclass(frozen=True, slots=True)
class DnsRow:
    """`instances` is how many, of all cells, have names. `left_out`: the host's name servers that are not asked, and why."""

    address: IPv4Address
    answers: bool
    instances: int
    upstreams: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResolverFacts:
    """`announce` writes a name into the folder, and returns the one that stands there then, "" for none. `running` is the
    process, while there is one. `obstacle` is what keeps it from starting; it blocks.
    """

    address: IPv4Address
    announce: Callable[[str], Awaitable[str]]
    instances: Callable[[], int]
    upstreams: Callable[[], Choice]
    running: Callable[[], DnsmasqProcess | None]
    obstacle: Callable[[], Complaint | None]
    clock: Callable[[], float]


class ResolverLiveness(Part):
    """One per agent."""

    def __init__(self, facts: ResolverFacts) -> None:
        self._facts = facts
        self._log = log.get("dns")
        self._number = 0
        self._name = ""
        self._silent_since: float | None = facts.clock()
        self._strange = 0  # answers in a row that were not the folder's
        self._pid: int | None = None  # of the process that is silent
        self._looked = facts.clock() - SPACING
        self._obstacle: Complaint | None = None

    @property
    def answers(self) -> bool:
        """Whether it has answered the last question."""
        return self._silent_since is None

    def problems(self) -> tuple[Problem, ...]:
        """That it does not run, does not answer, or goes by another folder; and what keeps it from starting."""
        if self._silent_since is None:
            return (Problem("dns", *NOT_FOLLOWING),) if self._strange >= TRIES else ()
        if self._pid is None:
            what = "dnsmasq does not run: containers have no DNS"
            hint = "its unit, or `cellnet up`, starts it again by itself: see its log (`journalctl -u cellnet-dns`)"
            return (Problem("dns", what, hint), *as_problems("dns", self._obstacle))
        what = f"dnsmasq has not answered for {self._facts.clock() - self._silent_since:.0f} s"
        hint = f"see whether it is stopped (`ps -o pid,stat -p {self._pid}`) or starved; rules are enforced without it"
        return (Problem("dns", what, hint),)

    async def rows(self) -> Mapping[str, object]:
        """`dns`."""
        choice = self._facts.upstreams()
        asked = tuple(map(str, choice.asked))
        return {"dns": DnsRow(self._facts.address, self.answers, self._facts.instances(), asked, choice.left_out)}

    async def run(self) -> None:
        """Ask for ever. Ends only by cancellation."""
        while True:
            await self.ask()
            await asyncio.sleep(EVERY if self.answers and not self._strange else SOON)

    async def ask(self) -> None:
        """Once."""
        asked = self._facts.clock()
        reply = await self._reply()
        if reply is DnsReply.NONE:
            await self._look_for_it(asked)
        else:
            self._heard(reply)

    async def _look_for_it(self, asked: float) -> None:
        """It has not answered what it was asked then."""
        self._silent_since = asked if self._silent_since is None else self._silent_since
        running = self._facts.running()
        self._pid = None if running is None else running.pid
        if self._pid is not None:
            self._obstacle = None
        elif asked - self._looked >= SPACING:
            self._obstacle, self._looked = await asyncio.to_thread(self._facts.obstacle), asked

    def _heard(self, reply: DnsReply) -> None:
        running = self._facts.running()
        silent = 0.0 if self._silent_since is None else self._facts.clock() - self._silent_since
        if silent > MISSED and running is not None and running.pid == self._pid:
            self._tell(signal.SIGHUP, "dnsmasq_reads_all_names_again")
        self._silent_since = None
        self._strange = 0 if reply is DnsReply.RIGHT else self._strange + 1
        if self._strange == TRIES:
            self._tell(signal.SIGTERM, "dnsmasq_ended_for_it_follows_another_folder")

    def _tell(self, number: signal.Signals, event: str) -> None:
        running = self._facts.running()
        if running is not None:
            self._log.warning(event, pid=running.pid)
            running.send(number)

    async def _reply(self) -> DnsReply:
        self._number = (self._number + 1) % 0x10000
        if self.answers or not self._name:  # one that stands still would have ever more changes of the folder before it
            self._name = await self._facts.announce(f"{self._number:04x}.{PROBED}")
        message = question(self._name or PROBED, number=self._number)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as caller:
            try:
                caller.connect((str(self._facts.address), PORT))
                caller.send(message)
                async with asyncio.timeout(TIMEOUT):
                    found = await self._received(caller)
            except OSError:  # TimeoutError is one
                return DnsReply.NONE
        return DnsReply.RIGHT if not self._name or says(found, self._facts.address) else DnsReply.OTHER

    async def _received(self, caller: socket.socket) -> bytes:
        while True:
            found = await asyncio.get_running_loop().sock_recv(caller, LARGEST)
            if is_answer(found, number=self._number):
                return found
