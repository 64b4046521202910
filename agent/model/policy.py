"""A policy as a value: which apps may reach which, or the outside, or be reached from there, on which ports, and where that was
written. No file, no store, no kernel.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Required, Self, TypeAlias, TypedDict, Unpack, cast

from agent.errors import InvalidInput
from agent.model.names import AppName, is_label
from agent.model.outside import Cidrs, Hosts


class Protocol(Enum):
    """What the language can allow. Of ICMP it is the echo alone."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class Scope(Enum):
    """Sources that depend on the destination."""

    SAME_SPACE = "same-space"
    SAME_ORG = "same-org"


@dataclass(frozen=True, slots=True, order=True)
class Pattern:
    """`acme/shop/web`, `acme/shop/*` (app None) or `acme/*/*` (space and app None)."""

    org: str
    space: str | None
    app: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`acme/shop/web`, `acme/shop/*` or `acme/*/*`. Raises InvalidInput with the part that is wrong."""
        parts = text.split("/")
        if len(parts) != 3 or ("*" in parts and parts.index("*") + parts.count("*") != 3) or parts[0] == "*":
            raise InvalidInput(f"'{text}' does not name apps", hint="write org/space/app, org/space/* or org/*/*")
        for part in parts:
            if part != "*" and not is_label(part):
                raise InvalidInput(
                    f"'{part}' in '{text}' is not a DNS label", hint="use a-z, 0-9 and inner hyphens, 63 at most"
                )
        org, space, app = (None if part == "*" else part for part in parts)
        assert org is not None
        return cls(org, space, app)

    def matches(self, app: AppName) -> bool:
        """Whether `app` is one of those meant."""
        return (
            self.org == app.org
            and (self.space is None or self.space == app.space)
            and (self.app is None or self.app == app.app)
        )

    def exact(self) -> AppName | None:
        """The one app meant, or None where there is a star."""
        if self.space is None or self.app is None:
            return None
        return AppName(self.org, self.space, self.app)

    def __str__(self) -> str:
        return f"{self.org}/{self.space or '*'}/{self.app or '*'}"


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """An inclusive range, 1 to 65535; one port has first == last. ICMP, which has none, has ECHO in their place."""

    first: int
    last: int

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        if self == ANY_PORT:
            return "any"
        if self == ECHO:
            return "echo"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


ANY_PORT = Ports(1, 65535)
ECHO = Ports(0, 0)


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a policy was written: a file (absolute path, 1-based line and column) or, with line 0, the store."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Opening:
    """What every kind of policy says: which ports are open, whether an echo passes, and where it was written.

    From `until` (UTC) on it allows nothing. What an `audit` policy alone allows passes, and is recorded. `note` is why it is
    there; nothing goes by it.
    """

    tcp: tuple[Ports, ...] = ()
    udp: tuple[Ports, ...] = ()
    icmp: bool = False
    audit: bool = False
    until: datetime | None = None
    note: str = ""
    origin: Origin

    def ports(self, protocol: Protocol) -> tuple[Ports, ...]:
        """The ranges allowed for one protocol, in ascending order, none overlapping."""
        match protocol:
            case Protocol.TCP:
                return self.tcp
            case Protocol.UDP:
                return self.udp
            case Protocol.ICMP:
                return (ECHO,) if self.icmp else ()


@dataclass(frozen=True, slots=True)
class AppPolicy(Opening):
    """Apps may reach apps. `name` is never empty: an unnamed rule of a file is called after its place (`shop.yaml:3`)."""

    name: str
    sources: tuple[Pattern | Scope, ...]
    to: Pattern


@dataclass(frozen=True, slots=True)
class EgressPolicy(Opening):
    """Apps may reach the outside."""

    name: str
    sources: tuple[Pattern, ...]
    to: Cidrs | Hosts


@dataclass(frozen=True, slots=True)
class IngressPolicy(Opening):
    """The outside may reach published ports of apps; the ports are the container's own."""

    name: str
    sources: Cidrs
    to: Pattern


Policy: TypeAlias = AppPolicy | EgressPolicy | IngressPolicy
"""One allow rule of any kind."""
KINDS: Final = frozenset[type]({AppPolicy, EgressPolicy, IngressPolicy})


class Terms(TypedDict, total=False):
    """The fields of `Opening`, as `policy_of` takes them."""

    tcp: tuple[Ports, ...]
    udp: tuple[Ports, ...]
    icmp: bool
    audit: bool
    until: datetime | None
    note: str
    origin: Required[Origin]


def policy_of(
    name: str, sources: tuple[Pattern | Scope, ...] | Cidrs, to: Pattern | Cidrs | Hosts, **terms: Unpack[Terms]
) -> Policy:
    """The policy of the kind that its ends make it. Raises InvalidInput where they make none."""
    match sources, to:
        case tuple(), Pattern():
            return AppPolicy(name, sources, to, **terms)
        case Cidrs(), Pattern():
            return IngressPolicy(name, sources, to, **terms)
        case tuple(), Cidrs() | Hosts():
            apps = tuple(each for each in sources if isinstance(each, Pattern))
            if len(apps) < len(sources):
                raise InvalidInput("a scope is that of an app as the destination", hint="write an app, org/space/* or org/*/*")
            return EgressPolicy(name, apps, to, **terms)
        case _:
            raise InvalidInput("both ends are outside", hint="one end of a policy is an app: org/space/app")


def between_apps(policies: tuple[Policy, ...]) -> tuple[AppPolicy, ...]:
    """Those that do not concern the outside; the same object where that is all of them."""
    found = tuple(each for each in policies if type(each) is AppPolicy)
    return cast("tuple[AppPolicy, ...]", policies) if len(found) == len(policies) else found


def spelled_out(policies: Iterable[Policy]) -> Iterator[tuple[str, str, str]]:
    """Org, space and app of each app that one of them spells out, and which therefore has a tag from now on.

    No names yet: thousands of policies speak of a few apps.
    """
    return (
        (each.org, each.space, each.app)
        for policy in policies
        for each in _ends(policy)
        if isinstance(each, Pattern) and each.space is not None and each.app is not None
    )


def _ends(policy: Policy) -> tuple[Pattern | Scope, ...]:
    match policy:
        case AppPolicy():
            return (*policy.sources, policy.to)
        case EgressPolicy():
            return policy.sources
        case IngressPolicy():
            return (policy.to,)
