"""Which flavour of iptables this host's rules are in: detected once at the start, or as the configuration says. And what other
programs' rules do to what ours allow, looked at beside the loop."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from agent import log
from agent.complaint import Complaints
from agent.config.config import BackendChoice, Config
from agent.errors import HostRefused
from agent.loop.loop import Reconciler
from agent.model.status import Part, Problem
from agent.wording import listed
from dataplane.firewall.backends import backends
from dataplane.firewall.flow_limits import OverLimit, over_limit
from dataplane.firewall.foreign import HarmfulChain, Passage, harmful_chains
from dataplane.kernel import Kernel
from dataplane.state import INBOUND_PORT, HostService

PERIOD = 10.0  # seconds between two looks


def chosen_backend(config: Config) -> backends.Backend:
    """Raises HostRefused where it cannot be detected."""
    choice = config.firewall.backend
    return backends.detect() if choice is BackendChoice.AUTO else backends.Backend(choice.value)


async def clear_other_backend(kernel: Kernel, backend: backends.Backend) -> None:
    """Rules of ours that an earlier choice left would go on refusing what is allowed now."""
    gone = await asyncio.wrap_future(kernel.submit(lambda: backends.clear_other(backend)))
    if gone:
        log.get("daemon").info("other_backend_cleared", kept=backend.value, chains=gone)


@dataclass(frozen=True, slots=True)
class FirewallRow:
    """The flavour (nft, legacy), and how many rules of ours it has."""

    backend: str
    rules: int


class FirewallPart(Part):
    """`loop` counts our rules and knows the containers; `passage` is what other programs' rules must let through."""

    def __init__(self, backend: backends.Backend, *, kernel: Kernel, loop: Reconciler, passage: Callable[[], Passage]) -> None:
        self._backend = backend
        self._kernel = kernel
        self._loop = loop
        self._passage = passage
        self._harmful: tuple[HarmfulChain, ...] = ()
        self._limited = OverLimit()
        self._log = log.get("firewall")
        self._looks = Complaints(self._log, failed="cannot_look_at_other_rules")

    def problems(self) -> Iterator[Problem]:
        """Other programs' chains that undo what policies allow, and containers that open or ask for too much."""
        for each in self._harmful:
            yield Problem("firewall", f"{each.where} {each.harm.value}", f"exempt the overlay: {each.remedy}")
        state = self._loop.applied()
        known = {} if state is None else {address: workload.name for address, workload in state.workloads.items()}
        shown = "shows where they lead; docs/security.md has the bound"
        if names := [known[each] for each in sorted(self._limited.flows) if each in known]:
            what = f"more new flows than one container may open: further ones of {listed(names)} are refused"
            yield Problem("firewall", what, f"`conntrack -L -s ADDRESS` {shown}")
        tls_port = 0 if state is None else state.tls_port
        for limited, kind, port in (
            (self._limited.tunnels, "tunnels of mutual TLS", INBOUND_PORT),
            (self._limited.tls, f"connections to port {tls_port}", tls_port),
        ):
            if names := [known.get(each, str(each)) for each in sorted(limited)]:
                what = f"more {kind} than one container may open: further ones of {listed(names)} are refused"
                yield Problem("firewall", what, f"`conntrack -L -p tcp --dport {port} -s ADDRESS` {shown}")
        if names := [known[each] for each in sorted(self._limited.questions) if each in known]:
            what = f"more questions for names than one container may ask: further ones of {listed(names)} get no answer"
            yield Problem("dns", what, "docs/names.md has the bound; a program that asks anew for each call may keep answers")

    async def rows(self) -> Mapping[str, object]:
        """`firewall`."""
        return {"firewall": FirewallRow(self._backend.value, self._loop.rule_count)}

    async def run(self) -> None:
        """Look at other programs' rules again and again."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD)

    async def look(self) -> None:
        """Once."""
        read = partial(harmful_chains, self._backend, self._passage())
        try:
            found = await asyncio.wrap_future(self._kernel.observe(read))
            limited = await asyncio.wrap_future(self._kernel.observe(over_limit))
            self._looks.over()
        except HostRefused as error:
            self._looks.about(error)
            return
        for each in found:
            if each not in self._harmful:
                self._log.warning("harmful_chain", chain=each.where, harm=each.harm.value)
        for event, now, before in (
            ("too_many_new_flows", limited.flows, self._limited.flows),
            ("too_many_tunnels", limited.tunnels, self._limited.tunnels),
            ("too_many_tls_connections", limited.tls, self._limited.tls),
            ("too_many_questions", limited.questions, self._limited.questions),
        ):
            if now - before:
                self._log.warning(event, addresses=sorted(map(str, now)))
        self._harmful, self._limited = found, limited


def passage_of(config: Config) -> Passage:
    """What this cell needs of the host's other rules."""
    sent = () if config.store is None else (HostService("udp", config.overlay.port),)
    names = (HostService("udp", 53), HostService("tcp", 53))
    return Passage(config.overlay.network, ports=(*sent, *names, *config.host_services), sent=sent)
