"""`/v1/policies/check`: what policies say about one connection, between apps, to the outside or from there."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from agent.errors import InvalidInput
from agent.model.names import AppName
from agent.model.outside import LINK, Cidrs, HostPattern, Inside
from agent.model.policy import Pattern, Policy, Protocol
from agent.policy.in_force import PoliciesInForce, open_ports
from agent.policy.known_apps import KnownApps
from agent.policy.language import forms
from agent.policy.language.forms import Form
from agent.policy.language.ports import parse_one
from agent.policy.language.terms import AUDIT, written_until
from agent.policy.mistaken_names import notices
from agent.policy.of_cells import PoliciesOfCells
from agent.policy.parties import Party, party_of
from agent.policy.rights.resolve import permitting


async def no_addresses() -> Collection[IPv4Address]:
    """None."""
    return ()


@dataclass(frozen=True, slots=True)
class OutsideDefaults:
    """What decides about the outside beside policies: the defaults of agent.yaml, which is `source`, what is never outside, and
    which addresses are this host's own.

    `why_never` has the reason for an address, which is empty where it may be outside. `leads_to`: whether a port of an app (its
    protocol and number) is published here. `app_at`: whose instance has an address of the overlay.
    """

    inside: Inside
    why_never: Callable[[IPv4Address], str]
    source: str = "agent.yaml"
    egress_allowed: bool = False
    ingress_allowed: Callable[[], bool] = lambda: False
    leads_to: Callable[[AppName, str, int], bool] = lambda _app, _protocol, _port: True
    own: Callable[[], Awaitable[Collection[IPv4Address]]] = no_addresses
    app_at: Callable[[IPv4Address], AppName | None] = lambda _address: None


@dataclass(frozen=True, slots=True)
class Question:
    """One connection."""

    source: Party
    to: Party
    protocol: Protocol
    port: int

    @property
    def reversed(self) -> "Question | None":
        """The other direction, where there is one: a name calls nothing."""
        return None if isinstance(self.to, HostPattern) else Question(self.to, self.source, self.protocol, self.port)

    @property
    def forms(self) -> Iterator[Form]:
        """Those of the policies that could allow it."""
        if isinstance(self.to, IPv4Address):
            yield Form.TO_CIDR
        if isinstance(self.to, HostPattern):
            yield Form.TO_HOST
        if not isinstance(self.source, AppName):
            yield Form.FROM_CIDR
        if self.protocol is Protocol.ICMP:
            yield Form.ECHO


@dataclass(frozen=True, slots=True)
class Permit:
    """What allows it: a policy's name and place, or a default's key and file. `until` is empty for what does not end; with
    `audit` it passes, and is recorded, since no other policy allows it.
    """

    by: str
    origin: str
    audit: bool = False
    until: str = ""
    note: str = ""


def asked(query: Mapping[str, str]) -> Question:
    """`from`, `to` and `port` (tcp/8080) of a query, which has each once. Raises InvalidInput."""
    if set(query) != {"from", "to", "port"}:
        raise InvalidInput(
            f"the query has {', '.join(sorted(query)) or 'nothing'}", hint="give from=, to= and port=, each once"
        )
    return Question(party_of(query["from"]), party_of(query["to"]), *parse_one(query["port"]))


BY_HOST = Permit("this host", "its own calls need no policy")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The policy that allows it, all ports that are open there, and the cells that do not allow it though they judge it, too.
    `is_here`: whether this cell judges it, as the destination runs here, or nowhere.
    """

    policy: Policy | None
    ports: tuple[str, ...]
    not_on: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    is_here: bool = True


class PolicyCheck:
    """Answers it, for all cells that judge it."""

    def __init__(
        self, policies: PoliciesInForce, *, known: KnownApps, defaults: OutsideDefaults, of_cells: PoliciesOfCells
    ) -> None:
        self._of_cells = of_cells
        self._policies = policies
        self._known = known
        self._defaults = defaults

    async def answer(self, query: Mapping[str, str]) -> Mapping[str, object]:
        """What allows a connection and what allows the other direction, and all ports that are open there, as tcp/8080."""
        question = asked(query)
        for form in question.forms:
            forms.require(form)
        obstacle = self._obstacle(question)
        judgement = Judgement(None, ()) if obstacle else await self._judged(question)
        permit = None if obstacle else await self._permit(question, judgement)
        reverse = await self._reverse(question)
        hints = (obstacle,) if obstacle else await self._elsewhere(question, permit)
        return {
            "allowed": permit is not None,
            "by": None if permit is None else permit.by,
            "origin": None if permit is None else permit.origin,
            "mode": AUDIT if permit is not None and permit.audit else None,
            "until": permit.until or None if permit is not None else None,
            "note": "" if permit is None else permit.note,
            "reverse": None if reverse is None else {"by": reverse.by, "origin": reverse.origin},
            "ports": judgement.ports,
            "not_on": tuple(each for each in judgement.not_on if permit is not BY_HOST or each != self._of_cells.cell),
            "notices": (*await self._mistyped(question), *hints, *judgement.notices),
        }

    async def _reverse(self, question: Question) -> Permit | None:
        back = question.reversed
        if back is None or self._obstacle(back) or not all(forms.ENFORCED[form] for form in back.forms):
            return None
        return await self._permit(back, await self._judged(back))

    async def _judged(self, question: Question) -> Judgement:
        """Of the cells that judge it. Where one of several does not allow it, calls fail now and then: that is said."""
        source, to, protocol, port = question.source, question.to, question.protocol, question.port
        here = await self._policies.check(source, to=to, protocol=protocol, port=port)
        of_cells = self._of_cells
        by_cell = await of_cells.speaking(source, to=to)
        if not by_cell.keys() - {of_cells.cell}:
            return Judgement(here, await self._policies.open_ports(source, to=to))
        found = {cell: permitting(each, protocol=protocol, port=port) for cell, each in by_cell.items()}
        policy = next((each for each in found.values() if each is not None), None)
        denying = tuple(cell for cell, each in found.items() if each is None)
        notices = [f"no policy of {each} allows it, which judges what runs there" for each in denying if policy is not None]
        if policy is None and here is not None:
            notices.append(f"{here.name} ({here.origin}) is a file's of this cell, and judges what runs here alone")
        notices += [why for cell in denying if (why := of_cells.incomplete(cell))]
        ports = open_ports(tuple(each for speaking in by_cell.values() for each in speaking))
        return Judgement(policy, ports, denying, tuple(notices), is_here=of_cells.cell in found)

    async def _permit(self, question: Question, judgement: Judgement) -> Permit | None:
        policy = judgement.policy
        is_call_in = isinstance(question.to, AppName) and isinstance(question.source, IPv4Address)
        if judgement.is_here and is_call_in and question.source in await self._defaults.own():
            return BY_HOST
        if policy is not None:
            until = "" if policy.until is None else written_until(policy.until)
            return Permit(policy.name, str(policy.origin), policy.audit, until, policy.note)
        if not judgement.is_here:
            return None
        if self._defaults.egress_allowed and not isinstance(question.to, AppName):
            return Permit("egress.default", self._defaults.source)
        if self._defaults.ingress_allowed() and not isinstance(question.source, AppName):
            return Permit("ingress.default", self._defaults.source)
        return None

    async def _mistyped(self, question: Question) -> tuple[str, ...]:
        apps = (each for each in (question.source, question.to) if isinstance(each, AppName))
        patterns = [Pattern(each.org, each.space, each.app) for each in apps]
        return notices(patterns, named=await self._known.named())

    def _obstacle(self, question: Question) -> str:
        """Why one end is never outside, whatever a policy says; empty where it may be."""
        inside, why, end = self._defaults.inside, "", question.to
        if isinstance(end, IPv4Address):
            why = self._defaults.why_never(end)
        elif isinstance(end, HostPattern):
            why = "apps have such names" if inside.has(end) else ""
        elif isinstance(question.source, IPv4Address) and question.source not in LINK:
            end, why = question.source, inside.why(IPv4Network(question.source))
        if not why:
            return ""
        app = self._defaults.app_at(end) if isinstance(end, IPv4Address) else None
        if app is not None:
            return f"{end} is {app}'s: ask about the app by its name"
        if isinstance(end, HostPattern):
            why += ": ask about the app, as org/space/app ('cellnet apps' has all)"
        return f"{end} is never outside: {why}"

    async def _elsewhere(self, question: Question, permit: Permit | None) -> tuple[str, ...]:
        """What lets it through all the same, since a name leads to addresses, or stops it, since no port leads there."""
        if permit not in (None, BY_HOST) and isinstance(question.source, IPv4Address) and isinstance(question.to, AppName):
            kind, port = question.protocol, question.port
            if kind is Protocol.ICMP:
                return ("a ping from outside is answered by the cell itself",)
            if not self._defaults.leads_to(question.to, kind.value, port):
                what = f"nothing of {question.to} on this cell publishes {kind.value}/{port}"
                return (f"{what}, which is a port inside of it: `cellnet ps` shows what leads where",)
        if permit is not None:
            return ()
        return (*await self._ended(question), *await self._by_other_words(question))

    async def _ended(self, question: Question) -> tuple[str, ...]:
        """What let it through until lately."""
        ended = await self._policies.ended(question.source, to=question.to, protocol=question.protocol, port=question.port)
        return tuple(f"{each.name} allowed it until {written_until(each.until)}" for each in ended if each.until is not None)

    async def _by_other_words(self, question: Question) -> tuple[str, ...]:
        """What lets an app reach the same by an address, where a name was asked for, or by a name."""
        if not isinstance(question.source, AppName) or isinstance(question.to, AppName):
            return ()
        way = "address" if isinstance(question.to, HostPattern) else "name"
        return tuple(
            f"{policy.name} allows {policy.to}, which may be the same: ask by {way}"
            for policy in await self._policies.egress_of(question.source)
            if any(question.port in ports for ports in policy.ports(question.protocol))
            and isinstance(policy.to, Cidrs) == isinstance(question.to, HostPattern)
        )
