"""The DNS names of an instance, in its certificate and, later, in the resolver. One place, so that both agree."""

from collections.abc import Iterable
from ipaddress import IPv4Address

from agent.identity.ca_errors import as_invalid_input
from agent.model.names import AppName
from ca.names import LONGEST_NAME, Identity


def app_name(app: AppName, *, domain: str) -> str:
    """`web.shop.acme.cell.internal`: the most specific part first, as DNS has it."""
    return f"{app.app}.{app.space}.{app.org}.{domain}"


def dns_names(app: AppName, *, index: int, routes: Iterable[str], domain: str) -> tuple[str, ...]:
    """Everything that instance `index` of `app` answers to: app and routes, each also with the index before it.

    In the same order for the same routes in any order, so that a leaf is not reissued for nothing. Names longer than DNS
    carries (253 characters) are left out: no resolver could look them up, and no certificate may hold them.
    """
    names = [app_name(app, domain=domain), *sorted(set(routes))]
    every = [each for name in names for each in (name, f"{index}.{name}")]
    return tuple(dict.fromkeys(name for name in every if len(name) <= LONGEST_NAME))


def identity(
    app: AppName, *, index: int, address: IPv4Address, routes: Iterable[str], domain: str, trust_domain: str
) -> Identity:
    """What the leaf of one instance must say. Raises InvalidInput for a route that is not a DNS name."""
    with as_invalid_input():
        return Identity(
            trust_domain=trust_domain,
            org=app.org,
            space=app.space,
            app=app.app,
            address=address,
            dns_names=dns_names(app, index=index, routes=routes, domain=domain),
        )
