"""The end of a rule that is outside: networks or names of hosts from the mapping that a file has, each mistake at its place.

What is this cell's own is no outside (`Inside` in agent/model/outside.py).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Network
from typing import TypeVar

from agent.config.problems import Report
from agent.config.source import Listing, Node, Table
from agent.config.values import parsed, table
from agent.errors import InvalidInput
from agent.model.outside import LINK, Cidrs, HostPattern, Hosts, Inside, Span, spans, without
from agent.model.policy import EgressPolicy, IngressPolicy, Policy
from agent.policy.language import forms, host_names, networks

T = TypeVar("T")
CIDR_KEYS = ("cidr", "except")
HOST_KEYS = ("host",)
MANY = 1 << 16  # words that are remembered: thousands of policies share them
WHOLE_HINT = "an exception takes a part of `cidr` out, never all of it"

known_network, known_host = lru_cache(MANY)(networks.parse_network), lru_cache(MANY)(host_names.parse_host)


def read_cidrs(node: Table, report: Report, *, keys: Sequence[str], inside: Inside, callers: bool = False) -> Cidrs | None:
    """`{cidr: …, except: …}`. `callers`: it is a source."""
    found = _values(node, report, keys=keys, needed="cidr")
    if found is None:
        return None
    outside = partial(_outside_network, inside=inside, callers=callers)
    given = _each(found["cidr"], report, convert=outside, empty=("an empty list names no network", networks.HINT))
    rest, empty = found.get("except"), ("an empty list excepts nothing", "leave the key out")
    excepted = [] if rest is None else _each(rest, report, convert=known_network, empty=empty)
    made = Cidrs(_known(given), _known(excepted))
    if rest is None or not given or any(each is None for _, each in given):
        return made
    beyond = _beyond(made)
    for place, exception in excepted:
        if exception is not None and _meets(spans([exception])[0], beyond):
            report.wrong(place, f"{exception} is not within `cidr`", hint="an exception takes a part of `cidr` out")
    if not made.normal():
        report.wrong(rest, "nothing of `cidr` is left", hint=WHOLE_HINT)
    return made


def read_hosts(node: Table, report: Report, *, keys: Sequence[str], inside: Inside) -> Hosts | None:
    """`{host: …}`."""
    found = _values(node, report, keys=keys, needed="host")
    if found is None:
        return None
    convert = partial(_foreign_host, inside=inside)
    empty = "an empty list names no host", host_names.HINT
    return Hosts(_known(_each(found["host"], report, convert=convert, empty=empty)))


def require_sound(policy: Policy, *, inside: Inside) -> None:
    """Raises InvalidInput for a policy that a file could not have: it was put together of words, or came from elsewhere."""
    for form in forms.forms_of(policy):
        forms.require(form)
    match policy:
        case EgressPolicy(to=Cidrs() as cidrs) | IngressPolicy(sources=cidrs):
            for network in cidrs.networks:
                _require_outside(network, inside=inside, callers=isinstance(policy, IngressPolicy))
            if cidrs.excepted and (_beyond(cidrs) or not cidrs.normal()):
                raise InvalidInput(f"the exceptions of {cidrs} are not a part of it", hint=WHOLE_HINT)
        case EgressPolicy(to=Hosts() as hosts):
            for host in hosts.names:
                _require_foreign(host, inside=inside)


def _values(node: Table, report: Report, *, keys: Sequence[str], needed: str) -> Mapping[str, Node] | None:
    found = table(node, report, keys=keys, what="a mapping")
    if found is None or (needed not in found and len(found) < len(node.entries)):
        return None  # the unknown key is probably the one that is needed
    if needed not in found:
        report.wrong(node, f"'{needed}' is missing", hint=f"possible: {', '.join(keys)}")
        return None
    return {key: value for key, (_, value) in found.items()}


def _each(
    node: Node, report: Report, *, convert: Callable[[str], T], empty: tuple[str, str]
) -> Sequence[tuple[Node, T | None]]:
    """One value, or a list of them, with their places. `empty`: what is wrong with a list of none, and the hint."""
    read = parsed(convert)
    items = node.items if isinstance(node, Listing) else (node,)
    if not items:
        report.wrong(node, empty[0], hint=empty[1])
    return [(item, read(item, report)) for item in items]


def _known(found: Iterable[tuple[Node, T | None]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(each for _, each in found if each is not None))


def _outside_network(text: str, *, inside: Inside, callers: bool) -> IPv4Network:
    found = known_network(text)
    _require_outside(found, inside=inside, callers=callers)
    return found


def _require_outside(network: IPv4Network, *, inside: Inside, callers: bool) -> None:
    if callers and network.subnet_of(LINK):
        return  # a neighbour of the cell may have such an address, and call
    if why := inside.why(network):
        hint = "name the app: org/space/app" if inside.overlay and network.subnet_of(inside.overlay) else ""
        raise InvalidInput(f"{network} is never outside: {why}", hint=hint)


def _foreign_host(text: str, *, inside: Inside) -> HostPattern:
    found = known_host(text)
    _require_foreign(found, inside=inside)
    return found


def _require_foreign(host: HostPattern, *, inside: Inside) -> None:
    if inside.has(host):
        raise InvalidInput(f"'{host}' is never outside: apps have such names", hint="name the app: org/space/app")


def _beyond(cidrs: Cidrs) -> Sequence[Span]:
    """What of the exceptions is in no network."""
    return list(without(spans(cidrs.excepted), spans(cidrs.networks)))


def _meets(span: Span, others: Sequence[Span]) -> bool:
    place = bisect_left(others, span[0], key=lambda each: each[1])
    return place < len(others) and others[place][0] <= span[1]
