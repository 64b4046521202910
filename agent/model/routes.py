"""Which routes there may be: a route is in certificates and, for callers, says which app answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from agent.config.config import Dns
from agent.errors import InvalidInput
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


def clash(one: Iterable[str], other: Iterable[str]) -> str | None:
    """A route of `one` for which a caller could reach `other`: the same name, or an instance's (`0.web.apps.internal`)."""
    theirs = {name for route in other for name in _meanings(route)}
    return next((route for route in one if not theirs.isdisjoint(_meanings(route))), None)


def _meanings(route: str) -> tuple[str, ...]:
    """The route, and the one that it would be an instance's name of."""
    first, _, rest = route.partition(".")
    return (route, rest) if first.isdecimal() else (route,)
