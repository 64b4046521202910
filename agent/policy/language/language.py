"""The policy language: the text of a file or of a stored document in, policies out, or all its mistakes.

First stop of every policy on its way to the kernel; agent/policy/rights/resolve.py is the next one.
"""

import json
import re
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import PurePath

from agent.config.problems import InvalidSource, Mistake, Report
from agent.config.source import BROKEN, Listing, Node, Scalar, Table, compose
from agent.config.values import Kind, choice, clipped, described, kind, parsed, reported, table
from agent.errors import InvalidInput
from agent.model.outside import NOTHING_INSIDE, Cidrs, Hosts, Inside
from agent.model.policy import ECHO, Origin, Pattern, Policy, Ports, Protocol, Scope, Terms, policy_of
from agent.policy.language import forms
from agent.policy.language.documents import document, made_up_name
from agent.policy.language.ends import destination_apps, destination_of, read_destination, read_sources, source_apps, source_of
from agent.policy.language.forms import Form
from agent.policy.language.outside_ends import known_host, known_network, require_sound
from agent.policy.language.ports import ARGUMENT_HINT, RANGE_HINT, merged, not_a_tunnels, parse_argument, parse_range
from agent.policy.language.terms import parse_mode, parse_note, parse_until, read_mode, read_note, read_until

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
KEYS = ("name", "from", "to", "tcp", "udp", "icmp", "mode", "until", "note")
PARTS = "from, to and tcp, udp or icmp"
NONE_HINT = "`policies: []` means none"
STORE = Origin("store")
MANY = 1 << 16  # lists of ports that are remembered: thousands of policies share them


def parse(content: bytes, *, source: str, named: bool = False, inside: Inside = NOTHING_INSIDE) -> tuple[Policy, ...]:
    """The policies in `content`; `source` is the file's absolute path, `inside` what of the cell's own is not outside.

    A rule without a name is called `<file>:<line>`, unless `named` demands that each has one (the store replaces by
    name). Raises InvalidSource with all mistakes, in the order of the text.
    """
    node, report = compose(content, file=source)
    rules = () if node is None and report.problems else _rules(node, report)
    policies = []
    lines: set[int] = set()
    for rule in rules:
        called = "" if named else _called(rule, report, siblings=lines)
        policies.append(_policy(rule, report, called=called, inside=inside))
        lines.add(rule.line)
    report.raise_if_any()
    return tuple(policy for policy in policies if policy is not None)


def parse_stored(name: str, text: str, *, inside: Inside = NOTHING_INSIDE) -> Policy:
    """The policy in a document of the store. Raises InvalidSource where it is not exactly one of that name."""
    known = _as_written(name, text, inside)
    if known is not None:
        return known
    policies = parse(text.encode(errors="surrogateescape"), source=f"store/{name}", named=True, inside=inside)
    if len(policies) != 1 or policies[0].name != name:
        raise InvalidSource((Mistake(f"store/{name}", 0, 0, f"holds other than one policy named '{name}'"),))
    return replace(policies[0], origin=STORE)


def _as_written(name: str, text: str, inside: Inside) -> Policy | None:
    """The policy, where `document` has written it, as nearly all that are read at a start. None: `parse` must judge."""
    try:
        (rule,) = json.loads(text)["policies"]
        sources, to = _known_sources(rule["from"]), _known_destination(rule["to"])
        tcp, udp = (_known_ports(tuple(rule.get(protocol.value, ()))) for protocol in (Protocol.TCP, Protocol.UDP))
        audit = "mode" in rule and parse_mode(rule["mode"])
        until = parse_until(rule["until"]) if "until" in rule else None
        note = parse_note(rule["note"]) if "note" in rule else ""
        terms = Terms(tcp=tcp, udp=udp, icmp=rule.get("icmp") == "echo", audit=audit, until=until, note=note, origin=STORE)
        policy = policy_of(_checked_name(name), sources, to, **terms)
        require_sound(policy, inside=inside)
    except (InvalidInput, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return policy if sources and (tcp or udp or policy.icmp) and document(policy) == text else None


def _known_sources(given: Mapping[str, Sequence[str]] | Sequence[str]) -> tuple[Pattern | Scope, ...] | Cidrs:
    return _known_cidrs(given) if isinstance(given, Mapping) else tuple(dict.fromkeys(map(source_apps, given)))


def _known_destination(given: Mapping[str, Sequence[str]] | str) -> Pattern | Cidrs | Hosts:
    if isinstance(given, str):
        return destination_apps(given)
    return Hosts(tuple(map(known_host, given["host"]))) if "host" in given else _known_cidrs(given)


def _known_cidrs(given: Mapping[str, Sequence[str]]) -> Cidrs:
    return Cidrs(tuple(map(known_network, given["cidr"])), tuple(map(known_network, given.get("except", ()))))


def parse_applied(content: bytes, *, source: str, inside: Inside = NOTHING_INSIDE) -> tuple[Policy, ...]:
    """The policies of a file that go into the store: one without a name gets that which `allowed` makes up.

    Raises InvalidSource.
    """
    found: dict[str, Policy] = {}
    for policy in parse(content, source=source, inside=inside):
        has_name = NAME.fullmatch(policy.name) is not None  # no name has a colon, as the place of a rule without one does
        made = replace(policy, name=policy.name if has_name else made_up_name(policy), origin=STORE)
        if found.setdefault(made.name, made) != made:
            line, column = policy.origin.line, policy.origin.column
            raise InvalidSource((Mistake(source, line, column, f"name '{made.name}' is given twice", "give each its own"),))
    return tuple(found.values())


def allowed(
    source: str, to: str, ports: Sequence[str], *, name: str | None = None, audit: bool = False, until: datetime | None = None,
    note: str = "",
) -> Policy:  # fmt: skip
    """`policy allow SOURCE TO tcp/8080 …` as a policy of the store, which need not take it. Raises InvalidInput.

    Without a name one is made up of what is allowed, so that the same call twice is one policy.
    """
    if name is not None:
        _checked_name(name)
    given = [parse_argument(each) for each in ports]
    if not given:
        raise InvalidInput("no port is given", hint=ARGUMENT_HINT)
    tcp, udp, icmp = (merged(found for kind, found in given if kind is protocol) for protocol in Protocol)
    caller = source_of(source)
    sources = caller if isinstance(caller, Cidrs) else (caller,)
    noted = parse_note(note) if note else ""
    terms = Terms(tcp=tcp, udp=udp, icmp=bool(icmp), audit=audit, until=until, note=noted, origin=STORE)
    policy = policy_of(name or "", sources, destination_of(to), **terms)
    return policy if name else replace(policy, name=made_up_name(policy))


def _rules(node: Node | None, report: Report) -> tuple[Node, ...]:
    if node is None:
        report.add(1, 1, "the file is empty", hint=NONE_HINT)
        return ()
    found = table(node, report, keys=("policies",), what="`policies:` and a list of policies")
    if found is None:
        return ()
    if "policies" not in found:
        report.wrong(node, "`policies:` is missing", hint=NONE_HINT)
        return ()
    rules = found["policies"][1]
    if not isinstance(rules, Listing):
        hint = "a rule starts with a hyphen: `- from: org/space/app`" if isinstance(rules, Table) else NONE_HINT
        report.wrong(rules, f"expected a list of policies, found {described(rules)}", hint=hint)
        return ()
    _refuse_twins(rules, report)
    return rules.items


def _refuse_twins(rules: Listing, report: Report) -> None:
    """Names are unique within a file."""
    seen: dict[str, int] = {}
    for rule in rules.items:
        names = [value for key, value in rule.entries if key.text == "name"] if isinstance(rule, Table) else []
        for value in names:
            if not isinstance(value, Scalar):
                continue
            if value.text in seen:
                hint = f"it is already taken in line {seen[value.text]}"
                report.wrong(value, f"name '{clipped(value.text)}' is given twice", hint=hint)
            seen.setdefault(value.text, value.line)


def _called(rule: Node, report: Report, *, siblings: Container[int]) -> str:
    """The name of a rule that has none: its place; the column only where a rule before it starts in the same line."""
    place = f"{PurePath(report.file).name}:{rule.line}"
    return f"{place}:{rule.column}" if rule.line in siblings else place


def _policy(rule: Node, report: Report, *, called: str, inside: Inside) -> Policy | None:
    found = table(rule, report, keys=KEYS, what=f"a rule with {PARTS}")
    if found is None:
        return None
    values = {key: value for key, (_, value) in found.items()}
    _note_missing(rule, values.keys(), report, needed=("from", "to") if called else ("from", "to", "name"))
    name = read_name(values["name"], report) if "name" in values else called
    source, target = values.get("from", BROKEN), values.get("to", BROKEN)
    sources = read_sources(source, report, inside=inside, to_outside=isinstance(target, Table))
    to = read_destination(target, report, inside=inside)
    tcp, udp = (_ports(values[key], report, protocol=key) if key in values else () for key in ("tcp", "udp"))
    terms = Terms(
        tcp=tcp,
        udp=udp,
        icmp="icmp" in values and _echo(values["icmp"], report),
        audit="mode" in values and bool(read_mode(values["mode"], report)),
        until=read_until(values["until"], report) if "until" in values else None,
        note=(read_note(values["note"], report) or "") if "note" in values else "",
        origin=Origin(report.file, rule.line, rule.column),
    )
    if name is None or sources is None or to is None:
        return None
    return reported(lambda: policy_of(name, sources, to, **terms), target, report)


def _note_missing(rule: Node, given: Collection[str], report: Report, *, needed: Sequence[str]) -> None:
    for key in needed:
        if key not in given:
            report.wrong(rule, f"'{key}' is missing", hint=f"a rule has {PARTS}")
    if not {"tcp", "udp", "icmp"}.intersection(given):
        report.wrong(rule, "none of tcp, udp and icmp is given", hint="e.g. tcp: 8080, or tcp: any for every port")


def _checked_name(text: str) -> str:
    if NAME.fullmatch(text) is None:
        hint = "use letters, digits and inner . _ -, 63 at most"
        raise InvalidInput(f"'{clipped(text)}' cannot name a policy", hint=hint)
    return text


read_name = parsed(_checked_name)


@lru_cache(MANY)
def _known_ports(texts: tuple[str, ...]) -> tuple[Ports, ...]:
    return merged(map(parse_range, texts))


_read_echo = choice({str(ECHO): Form.ECHO})


def _echo(node: Node, report: Report) -> bool:
    form = _read_echo(node, report)
    return form is not None and reported(lambda: forms.require(form), node, report) is not None


def _ports(node: Node, report: Report, *, protocol: str) -> tuple[Ports, ...]:
    items = node.items if isinstance(node, Listing) else (node,)
    if not items:
        report.wrong(node, "an empty list opens no port", hint="leave the key out, or write any for every port")
    found = (_range(item, report, protocol=protocol) for item in items)
    return merged(each for each in found if each is not None)


def _range(node: Node, report: Report, *, protocol: str) -> Ports | None:
    if not isinstance(node, Scalar) or kind(node) is Kind.NULL:
        report.wrong(node, f"expected a port, found {described(node)}", hint=RANGE_HINT)
        return None
    if "," in node.text:
        report.wrong(node, f"'{clipped(node.text)}' is not a port or a range of ports", hint="several are a list: [80, 443]")
        return None
    if kind(node) in (Kind.TEXT, Kind.INTEGER):
        return reported(lambda: not_a_tunnels(protocol, parse_range(node.text)), node, report)
    report.wrong(node, f"expected a port, found {described(node)}", hint="write a plain decimal number, such as 8080")
    return None
