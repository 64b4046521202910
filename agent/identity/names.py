"""The DNS names of an instance: those in its certificate, and those that lead to it in the resolver. One place, so that both
agree.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import accumulate, filterfalse, takewhile

from agent.config.config import Dns
from agent.config.name_templates import OWN, NameTemplate
from agent.errors import Conflict
from agent.identity.ca_errors import as_invalid_input
from agent.model.names import AppName
from agent.model.routes import RouteDomains, Routes, routes_of
from ca.names import LONGEST_NAME, Identity

Names = tuple[str, ...]
ROOM = 1 << 16
"""Octets that the names of one instance may have in its certificate: OpenSSL's clients refuse one of 100 KiB."""
BESIDE = 6  # octets of each: tag and length, and half of an index with its dot, which every other one has


def app_name(app: AppName, *, domain: str) -> str:
    """`web.shop.acme.cell.internal`: the most specific part first, as DNS has it."""
    return _named(OWN, app, domain)


def _named(template: NameTemplate, app: AppName, domain: str) -> str:
    return template.name(app=app.app, space=app.space, org=app.org, domain=domain)


@dataclass(frozen=True, slots=True)
class NamesHeld:
    """Whose names are whose, as the store has it. The same objects as long as nothing changed."""

    routes: Routes
    claimed: Mapping[str, AppName]

    def is_as(self, other: "NamesHeld") -> bool:
        """Whether nothing can have changed between the two."""
        return self.routes is other.routes and self.claimed is other.claimed


class Naming:
    """What apps are called, by the configuration and by what the store says whose names are. `held` is asked anew each time."""

    def __init__(self, dns: Dns, held: Callable[[], NamesHeld]) -> None:
        self._domain = dns.domain
        self._templates = dns.templates
        self.domains = RouteDomains.of(dns)
        self.held = held

    def of(self, app: AppName, asked: Iterable[str], held: NamesHeld) -> Names:
        """What instances of `app` answer to that asked for these routes at attach, each also with an index before it.

        Its own name, those of templates, its routes: a name that several apps could have only where it is this one's. No more
        of them than a certificate has room for.
        """
        wanted = self._wanted(app, asked, held)
        return wanted[: _fitting(wanted)]

    def without_room(self, app: AppName, asked: Iterable[str], held: NamesHeld) -> Names:
        """Those that it would answer to if its certificate had more room."""
        wanted = self._wanted(app, asked, held)
        return wanted[_fitting(wanted) :]

    def require_room(self, app: AppName, hosts: Iterable[str]) -> None:
        """Raises Conflict where instances of `app` could not answer to these routes, too."""
        wanted = self._wanted(app, [], self.held())
        more = tuple(dict.fromkeys(filterfalse(frozenset(wanted).__contains__, hosts)))
        left = more[max(_fitting((*wanted, *more)) - len(wanted), 0) :]
        if left:
            raise Conflict(
                f"the certificate of {app} has no room for {left[0]}, beside {len(wanted) + len(more) - len(left)} other names",
                hint="unmap routes that nothing asks for, or give it to another app",
            )

    def _wanted(self, app: AppName, asked: Iterable[str], held: NamesHeld) -> Names:
        own = (name for name, shared in self._by_templates(app) if not shared or held.claimed.get(name) == app)
        return (*own, *self.routes(app, asked, held))

    def routes(self, app: AppName, asked: Iterable[str], held: NamesHeld) -> Names:
        """The routes among them, sorted."""
        return self.domains.allowed(routes_of(app, asked, held.routes))

    def to_claim(self, app: AppName) -> Names:
        """The names that `app` has only by a claim."""
        return tuple(name for name, shared in self._by_templates(app) if shared)

    def _by_templates(self, app: AppName) -> Iterator[tuple[str, bool]]:
        """Names, and whether several apps could have them; none that DNS cannot carry."""
        for template in self._templates:
            name = _named(template, app, self._domain)
            if len(name) <= LONGEST_NAME:
                yield name, template.is_shared


def _fitting(names: Names) -> int:
    """How many of them, from the first on, a certificate has room for."""
    sizes = accumulate(2 * (len(name) + BESIDE) for name in names)  # with an index and without
    return sum(1 for _ in takewhile(ROOM.__ge__, sizes))


def with_index(names: Names, index: int) -> Names:
    """What instance `index` answers to: each name with the index before it, which is its alone, and each without.

    Names longer than DNS carries (253 characters) are left out: no resolver could look them up, and no certificate may hold
    them.
    """
    every = [each for name in names for each in (f"{index}.{name}", name)]
    return tuple(dict.fromkeys(name for name in every if len(name) <= LONGEST_NAME))


def without_index(names: Names) -> Names:
    """What an instance answers to whose number is another's."""
    return tuple(name for name in names if len(name) <= LONGEST_NAME)


def identity(app: AppName, *, index: int, address: IPv4Address, names: Names, trust_domain: str) -> Identity:
    """What the leaf of one instance must say, whose app answers to `names`. Raises InvalidInput for what is no DNS name."""
    with as_invalid_input():
        return Identity(
            trust_domain=trust_domain,
            org=app.org,
            space=app.space,
            app=app.app,
            address=address,
            dns_names=with_index(names, index),
        )
