"""Who may reach whom, said once more: by the policy language as the documentation tells it, and by nothing else.

An oracle for tests of all the rest: slow, obvious, and on purpose without a single import of cellnet, so that a mistake there
is not made here too. A rule is a plain table as a policy file has it: `{"from": …, "to": …, "tcp": …, "udp": …, "icmp": …}`. An
echo has port 0.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import TypeAlias

Rule: TypeAlias = Mapping[str, object]
OUTBOUND, TUNNELS, TLS = 15001, 15008, 61443  # ports that apps cannot have: the first two with mutual TLS, the last ever


class Mode(Enum):
    """What becomes of TCP between containers. A cell on its way back from mutual TLS is to its callers as one in ACCEPT."""

    NONE = "none"
    ACCEPT = "accept"
    STRICT = "strict"


@dataclass(frozen=True)
class Known:
    """What one cell goes by: the rules of its own files, and of the store as far as it has heard of them, each by name."""

    files: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    store: Mapping[str, Rule] = field(default_factory=dict)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All of them: they add up, and their order is of no meaning."""
        return *(rule for rules in self.files.values() for rule in rules), *self.store.values()


def reaches(source: str, *, to: str, protocol: str, port: int, known: Known) -> bool:
    """Whether an instance of app `source` may open a connection to an instance of app `to`.

    `known` is what the destination's cell goes by: the source's does not decide. 61443 is a port as any other, and so are
    two instances of one app two apps of the same name.
    """
    return any(allows(rule, source=source, to=to, protocol=protocol, port=port) for rule in known.rules)


def goes_out(source: str, *, to: str, protocol: str, port: int, known: Known) -> bool:
    """Whether an instance of app `source` may open a connection to the outside, by an address, or by a name that it asks for.

    `known` is what the source's cell goes by.
    """
    return any(
        isinstance(rule["to"], Mapping)
        and any(_is_meant(each, source) for each in _listed(rule["from"]))
        and (_has_name(rule["to"], to) or _has_address(rule["to"], to))
        and _is_open(rule, protocol, port)
        for rule in known.rules
    )


def comes_in(caller: str, *, to: str, protocol: str, port: int, known: Known) -> bool:
    """Whether an address of the outside may call a published port of app `to`; `port` is the container's own.

    `known` is what the destination's cell goes by.
    """
    return any(
        isinstance(rule["from"], Mapping)
        and _has_address(rule["from"], caller)
        and _is_meant(str(rule["to"]), to)
        and _is_open(rule, protocol, port)
        for rule in known.rules
    )


def arrives(source: str, *, to: str, protocol: str, port: int, known: Known, mode: Mode) -> bool:
    """Whether the destination's cell, in a mode of mutual TLS, lets through what opens a flow from `source` to this very port.

    As packets go: TCP to TUNNELS is a tunnel, in which streams for other ports come; to any other port it is plain.
    """
    if mode is Mode.NONE or protocol != "tcp" or port == TLS:
        return reaches(source, to=to, protocol=protocol, port=port, known=known)
    if port == TUNNELS:
        return any(reaches(source, to=to, protocol="tcp", port=each, known=known) for each in _ports_of_apps(known))
    return mode is Mode.ACCEPT and port != OUTBOUND and reaches(source, to=to, protocol="tcp", port=port, known=known)


def leaves(port: int, *, protocol: str, mode: Mode) -> bool:
    """Whether a cell lets its containers send to this port of another cell's at all."""
    return mode is not Mode.STRICT or protocol != "tcp" or port in (TUNNELS, TLS)


def allows(rule: Rule, *, source: str, to: str, protocol: str, port: int) -> bool:
    """Whether one rule allows this, between apps."""
    return (
        not isinstance(rule["from"], Mapping)
        and not isinstance(rule["to"], Mapping)
        and _is_meant(str(rule["to"]), to)
        and any(_may_come(source, by=each, to=to) for each in _listed(rule["from"]))
        and _is_open(rule, protocol, port)
    )


def named(rules: Iterable[Rule]) -> frozenset[str]:
    """The apps that rules spell out, as a source or as the destination."""
    ends = (end for rule in rules for end in (rule["from"], rule["to"]) if not isinstance(end, Mapping))
    return frozenset(word for end in ends for word in _listed(end) if _is_app(word))


def opened(rule: Rule, protocol: str) -> Sequence[tuple[int, int]]:
    """The ports of a rule as ranges that neither touch nor overlap, ascending."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(_range(each) for each in _listed(rule.get(protocol, ()))):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _is_open(rule: Rule, protocol: str, port: int) -> bool:
    if protocol == "icmp":
        return rule.get("icmp") == "echo"
    return any(_opens(each, port) for each in _listed(rule.get(protocol, ())))


def _has_address(end: Mapping[str, object], address: str) -> bool:
    """Whether it is in one of the networks, and in none of the exceptions."""
    try:
        one = ip_address(address)
    except ValueError:
        return False
    networks, exceptions = (_listed(end.get(key, ())) for key in ("cidr", "except"))
    return any(one in ip_network(each) for each in networks) and not any(one in ip_network(each) for each in exceptions)


def _has_name(end: Mapping[str, object], name: str) -> bool:
    """An exact name is that name alone; `*.` is any depth below."""
    patterns = _listed(end.get("host", ()))
    return any(name == each or (each.startswith("*.") and name.endswith(each[1:])) for each in patterns)


def _ports_of_apps(known: Known) -> Iterator[int]:
    """Of each range that is opened by anything one port, if it has any that an app can have: of four one is none of ours."""
    for rule in known.rules:
        for first, last in opened(rule, "tcp"):
            ports = [port for port in range(first, min(first + 3, last) + 1) if port not in (OUTBOUND, TUNNELS, TLS)]
            yield from ports[:1]


def _listed(value: object) -> Collection[str]:
    """A list, or what stands for a list of one."""
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _is_app(word: str) -> bool:
    return word.count("/") == 2 and "*" not in word


def _may_come(source: str, *, by: str, to: str) -> bool:
    org, space, _ = source.split("/")
    its_org, its_space, _ = to.split("/")
    if by == "same-space":
        return (org, space) == (its_org, its_space)
    if by == "same-org":
        return org == its_org
    return _is_meant(by, source)


def _is_meant(pattern: str, app: str) -> bool:
    return all(one in ("*", other) for one, other in _parts(pattern, app))


def _parts(pattern: str, app: str) -> Iterator[tuple[str, str]]:
    return zip(pattern.split("/"), app.split("/"), strict=True)


def _opens(ports: str, port: int) -> bool:
    first, last = _range(ports)
    return first <= port <= last


def _range(ports: str) -> tuple[int, int]:
    if ports == "any":
        return 1, 65535
    first, _, last = ports.partition("-")
    return int(first), int(last or first)
