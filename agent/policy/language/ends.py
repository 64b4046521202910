"""The two ends of a rule, apps or the outside: from the nodes of a file, or from one word of a command line."""

from functools import lru_cache, partial

from agent.config.problems import Report
from agent.config.source import Listing, Node, Table
from agent.config.values import clipped, described, parsed, reported
from agent.errors import InvalidInput
from agent.model.outside import Cidrs, Hosts, Inside
from agent.model.policy import Pattern, Scope
from agent.policy.language import forms
from agent.policy.language.forms import Form
from agent.policy.language.host_names import looks_like_host
from agent.policy.language.networks import looks_like_address
from agent.policy.language.outside_ends import CIDR_KEYS, HOST_KEYS, MANY, known_host, known_network, read_cidrs, read_hosts

SCOPES = {each.value: each for each in Scope}
APPS_HINT = "an app (org/space/app), org/space/*, org/*/*, same-space, same-org, or a list of these"


def source_of(text: str) -> Pattern | Scope | Cidrs:
    """A source in one word: apps, or a network. Raises InvalidInput."""
    if looks_like_address(text):
        return Cidrs((known_network(text),))
    if looks_like_host(text):
        raise InvalidInput(f"'{clipped(text)}' is not an address", hint="callers of the outside are known by addresses alone")
    return source_apps(text)


def destination_of(text: str) -> Pattern | Cidrs | Hosts:
    """A destination in one word: apps, a network, or a name of hosts. Raises InvalidInput."""
    if looks_like_address(text):
        return Cidrs((known_network(text),))
    return Hosts((known_host(text),)) if looks_like_host(text) else destination_apps(text)


@lru_cache(MANY)
def source_apps(text: str) -> Pattern | Scope:
    """`acme/shop/web`, `acme/shop/*`, `same-space` and their like. Raises InvalidInput."""
    if text in SCOPES:
        return SCOPES[text]
    if "/" not in text and not looks_like_address(text):
        raise InvalidInput(f"'{clipped(text)}' does not name apps", hint=APPS_HINT)
    return _apps(text, form=Form.FROM_CIDR)


@lru_cache(MANY)
def destination_apps(text: str) -> Pattern:
    """`acme/shop/web`, `acme/shop/*` or `acme/*/*`. Raises InvalidInput."""
    if text in SCOPES:
        raise InvalidInput(f"'to' cannot be {text}", hint="scopes are for 'from'; write org/space/app or org/space/*")
    if forms.ENFORCED[Form.TO_HOST] and looks_like_host(text) and not looks_like_address(text):
        shown = f'"{clipped(text)}"' if "*" in text else clipped(text)  # YAML's stars need quotes
        raise InvalidInput(f"'{known_host(text)}' does not name apps", hint=f"a host outside is {{host: {shown}}}")
    return _apps(text, form=Form.TO_CIDR)


def _apps(text: str, *, form: Form) -> Pattern:
    if looks_like_address(text):
        hint = "a policy names apps, never addresses: org/space/app"
        if forms.ENFORCED[form]:
            hint = f"outside it is {{cidr: {known_network(text)}}}; an app is org/space/app"
        raise InvalidInput(f"'{clipped(text)}' is an address", hint=hint)
    return Pattern.parse(text)


_read_source, _read_destination = parsed(source_apps), parsed(destination_apps)


def read_sources(node: Node, report: Report, *, inside: Inside, to_outside: bool) -> tuple[Pattern | Scope, ...] | Cidrs | None:
    """`from`. With `to_outside` there is no destination whose space or org a scope could be."""
    if isinstance(node, Table):
        is_enforced = reported(partial(forms.require, Form.FROM_CIDR), node, report)
        return read_cidrs(node, report, keys=CIDR_KEYS, inside=inside, callers=True) if is_enforced else None
    items = node.items if isinstance(node, Listing) else (node,)
    if not items:
        report.wrong(node, "an empty list allows nobody", hint=APPS_HINT)
    found = tuple(_source(item, report, to_outside=to_outside) for item in items)
    return tuple(dict.fromkeys(each for each in found if each is not None))


def _source(node: Node, report: Report, *, to_outside: bool) -> Pattern | Scope | None:
    if isinstance(node, Table) and forms.ENFORCED[Form.FROM_CIDR]:
        hint = "networks have a rule of their own: `from: {cidr: […]}`"
        report.wrong(node, f"expected text, found {described(node)}", hint=hint)
        return None
    found = _read_source(node, report)
    if isinstance(found, Scope) and to_outside:
        hint = "a scope is that of a destination that is an app; write org/space/*, org/*/* or an app"
        report.wrong(node, f"the outside is in no {found.value.removeprefix('same-')}", hint=hint)
        return None
    return found


def read_destination(node: Node, report: Report, *, inside: Inside) -> Pattern | Cidrs | Hosts | None:
    """`to`."""
    if isinstance(node, Listing):
        report.wrong(node, "expected one app or pattern, found a list", hint="write one rule for each destination")
        return None
    if not isinstance(node, Table):
        return _read_destination(node, report)
    has_host = any(key.text in HOST_KEYS for key, _ in node.entries)
    if has_host and any(key.text in CIDR_KEYS for key, _ in node.entries):
        report.wrong(node, "networks and names of hosts stand in one rule", hint="write one rule for each")
        return None
    if not reported(partial(forms.require, Form.TO_HOST if has_host else Form.TO_CIDR), node, report):
        return None
    read = read_hosts if has_host else read_cidrs
    return read(node, report, keys=(*CIDR_KEYS, *HOST_KEYS), inside=inside)
