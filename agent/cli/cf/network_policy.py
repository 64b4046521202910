"""Policies as Cloud Foundry lists them: a row for each source, protocol and range of ports. Ours may mean more than one app."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.cli.policy.commands import origin
from agent.cli.policy.stored import is_stored
from agent.client.answer import Fields
from agent.model.names import AppName, Space
from agent.model.policy import Pattern, Ports, Scope

PROTOCOLS = ("tcp", "udp")


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """`ports` as 8080, 8080-8090 or any; `origin` as policies are listed; `policy` is its name."""

    source: Pattern | Scope
    to: Pattern
    protocol: str
    ports: str
    policy: str
    origin: str
    is_stored: bool

    @property
    def source_text(self) -> str:
        """As the policy says it."""
        return self.source.value if isinstance(self.source, Scope) else str(self.source)

    def lets_out(self, space: Space, app: str | None) -> bool:
        """Whether it is for that app of a space, or, without one, for any of it."""
        if isinstance(self.source, Scope):
            return self.to.org == space.org and (self.source is Scope.SAME_ORG or self.to.space in (None, space.space))
        is_near = self.source.org == space.org and self.source.space in (None, space.space)
        return is_near and (app is None or self.source.app in (None, app))

    def joins(self, source: AppName, to: AppName, *, on: Ports, protocol: str) -> bool:
        """Whether it lets the one app reach the other on any of these ports."""
        from agent.policy.language.ports import parse_range  # both are slow to import
        from agent.policy.rights.resolve import meant

        ours = parse_range(self.ports)
        is_open = self.protocol == protocol and ours.first <= on.last and on.first <= ours.last
        return is_open and self.to.matches(to) and meant(self.source, to=to).matches(source)


def network_policies_of(policies: Fields) -> Iterator[NetworkPolicy]:
    """Of what `GET /v1/policies` answers, in its order. What concerns the outside is no network policy of cf."""
    for each in policies.each():
        sources, to = each.at("from").value, each.at("to").value
        if isinstance(sources, list) and isinstance(to, str):
            yield from _each(each, [_source(str(word)) for word in sources], Pattern.parse(to))


def _each(policy: Fields, sources: Sequence[Pattern | Scope], to: Pattern) -> Iterator[NetworkPolicy]:
    name, place, stored = policy.text("name"), origin(policy.at("origin")), is_stored(policy)
    for source in sources:
        for protocol in PROTOCOLS:
            for ports in policy.texts(protocol):
                yield NetworkPolicy(source, to, protocol, ports, name, place, stored)


def _source(word: str) -> Pattern | Scope:
    return Pattern.parse(word) if "/" in word else Scope(word)
