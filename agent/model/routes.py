"""Which routes there may be, and which hold: a route is in certificates and, for callers, says which app answers.

A route is one space's, with all names above and below it: whoever had `shop.apps.internal` could pass for a part of what
`www.shop.apps.internal` is, and the other way round.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from agent.config.config import Dns
from agent.errors import InvalidInput
from agent.model.names import AppName, Space
from agent.wording import listed


@dataclass(frozen=True, slots=True)
class RouteDomains:
    """A route lies below one of `domains`, and not in the apps' `own` domain, where each app has its name already."""

    domains: tuple[str, ...]
    own: str

    @classmethod
    def of(cls, dns: Dns) -> Self:
        """Those of agent.yaml."""
        return cls(dns.route_domains, dns.domain)

    def require(self, route: str) -> None:
        """Raises InvalidInput for a route that may not be."""
        if route == self.own or route.endswith(f".{self.own}"):
            what = f"'{route}' is in {self.own}, where only the apps' own names are"
        elif not route.endswith(tuple(f".{domain}" for domain in self.domains)):
            what = f"'{route}' lies below no route domain"
        else:
            return
        below = f"write a name below {listed(self.domains)}, or add" if self.domains else "add"
        raise InvalidInput(what, hint=f"{below} its domain to dns.route_domains in agent.yaml")

    def allowed(self, routes: Iterable[str]) -> tuple[str, ...]:
        """Those that may be."""
        return tuple(route for route in routes if self._allows(route))

    def _allows(self, route: str) -> bool:
        try:
            self.require(route)
        except InvalidInput:
            return False
        return True


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """A name that holds, and whose it is.

    `apps` are those that the operator has mapped it to: each running instance of theirs has it. So has each instance of the
    space that asked for it at attach, but for the apps of `without`, from which the operator has taken it. Both are empty in a
    claim, which comes from an attach (`by_operator` False).
    """

    host: str
    space: Space
    apps: frozenset[AppName] = frozenset()
    by_operator: bool = False
    without: frozenset[AppName] = frozenset()


class Routes(Mapping[str, Route]):
    """All routes that hold, by host. Never changed: `after` makes another, so that the same object means the same routes."""

    def __init__(self, routes: Mapping[str, Route] = MappingProxyType({})) -> None:
        self._by_host: dict[str, Route] = {}
        self._by_app: dict[AppName, frozenset[str]] = {}
        self._take(routes)

    def after(self, changes: Mapping[str, Route | None]) -> "Routes":
        """With these by host, and without those that are None; the same object where that changes nothing."""
        if all(self._by_host.get(host) == route for host, route in changes.items()):
            return self
        made = Routes()
        made._by_host, made._by_app = dict(self._by_host), dict(self._by_app)
        made._take(changes)
        return made

    def mapped_to(self, app: AppName) -> frozenset[str]:
        """The hosts that the operator has mapped to it."""
        return self._by_app.get(app, frozenset())

    def related(self, host: str) -> Iterator[Route]:
        """The route itself, those above it and those below it."""
        found = self._by_host
        yield from (found[name] for name in (host, *names_above(host)) if name in found)
        below = f".{host}"
        yield from [route for name, route in found.items() if name.endswith(below)]

    def _take(self, changes: Mapping[str, Route | None]) -> None:
        for host, route in changes.items():
            before = self._by_host.pop(host, None)
            for app in before.apps if before is not None else ():
                self._by_app[app] -= {host}
                if not self._by_app[app]:
                    del self._by_app[app]
            if route is not None:
                self._by_host[host] = route
                for app in route.apps:
                    self._by_app[app] = self.mapped_to(app) | {host}

    def __getitem__(self, host: str) -> Route:
        return self._by_host[host]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_host)

    def __len__(self) -> int:
        return len(self._by_host)


def routes_of(app: AppName, asked: Iterable[str], routes: Routes) -> tuple[str, ...]:
    """The routes that hold for an instance of `app` which asked for those at attach; sorted. The one place that decides it."""
    space = Space.of(app)
    found = set(routes.mapped_to(app))
    for host in asked:
        route = routes.get(host)
        if route is not None and route.space == space and app not in route.without:
            found.add(host)
    return tuple(sorted(found))


def refuse_numbered(host: str) -> None:
    """Raises InvalidInput for a name that an instance of another route has (`0.web.apps.internal`)."""
    if host.partition(".")[0].isdecimal():
        raise InvalidInput(
            f"'{host}' begins with a number, as the names of a route's instances do", hint="begin with a label that is none"
        )


def names_above(host: str) -> Iterator[str]:
    """The names that contain it, the nearest first: `b.c` and `c` of `a.b.c`."""
    while "." in host:
        host = host.partition(".")[2]
        yield host
