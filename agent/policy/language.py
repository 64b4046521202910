"""The policy language: the text of a file or of a stored document in, policies out, or all its mistakes.

First stop of every policy on its way to the kernel; `resolve.py` is the next one.
"""

import hashlib
import json
import re
from collections.abc import Container, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath

from agent.config.problems import InvalidSource, Mistake, Report
from agent.config.source import BROKEN, Listing, Node, Scalar, Table, compose
from agent.config.values import Kind, clipped, described, kind, parsed, reported, table
from agent.errors import InvalidInput
from agent.model.outside import Cidrs, Hosts
from agent.model.policy import AppPolicy, Origin, Pattern, Policy, Ports, Protocol, Scope
from agent.policy.ports import RANGE_HINT, merged, parse_argument, parse_range

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/[0-9]{1,2})?")
KEYS = ("name", "from", "to", "tcp", "udp")
SCOPES = {each.value: each for each in Scope}
NONE_HINT = "`policies: []` means none"
FROM_HINT = "an app (org/space/app), org/space/*, org/*/*, same-space, same-org, or a list of these"
STORE = Origin("store")
MANY = 1 << 16  # apps and lists of ports that are remembered: thousands of policies share them


def parse(content: bytes, *, source: str, named: bool = False) -> tuple[Policy, ...]:
    """The policies in `content`; `source` is the file's absolute path.

    A rule without a name is called `<file>:<line>`, unless `named` demands that each has one (the store replaces by
    name). Raises InvalidSource with all mistakes, in the order of the text.
    """
    node, report = compose(content, file=source)
    rules = () if node is None and report.problems else _rules(node, report)
    policies = []
    lines: set[int] = set()
    for rule in rules:
        policies.append(_policy(rule, report, called="" if named else _called(rule, report, siblings=lines)))
        lines.add(rule.line)
    report.raise_if_any()
    return tuple(policy for policy in policies if policy is not None)


def document(policy: Policy) -> str:
    """One policy as the text of a file (JSON, which is YAML), such as the store keeps; `parse` reads it again."""
    rule: dict[str, object] = {
        "name": policy.name,
        "from": written(policy.sources),
        "to": written(policy.to),
    }
    for protocol in (Protocol.TCP, Protocol.UDP):
        if policy.ports(protocol):
            rule[protocol.value] = [str(each) for each in policy.ports(protocol)]
    if policy.icmp:
        rule["icmp"] = "echo"
    return json.dumps({"policies": [rule]})


def written(end: tuple[Pattern | Scope, ...] | Pattern | Cidrs | Hosts) -> object:
    """One end of a policy, in the words of the policy file."""
    match end:
        case tuple():
            return [each.value if isinstance(each, Scope) else str(each) for each in end]
        case Cidrs(excepted=()):
            return {"cidr": list(map(str, end.networks))}
        case Cidrs():
            return {"cidr": list(map(str, end.networks)), "except": list(map(str, end.excepted))}
        case Hosts():
            return {"host": list(map(str, end.names))}
        case Pattern():
            return str(end)


def parse_stored(name: str, text: str) -> Policy:
    """The policy in a document of the store. Raises InvalidSource where it is not exactly one of that name."""
    known = _as_written(name, text)
    if known is not None:
        return known
    policies = parse(text.encode(errors="surrogateescape"), source=f"store/{name}", named=True)
    if len(policies) != 1 or policies[0].name != name:
        raise InvalidSource((Mistake(f"store/{name}", 0, 0, f"holds other than one policy named '{name}'"),))
    return replace(policies[0], origin=STORE)


def _as_written(name: str, text: str) -> Policy | None:
    """The policy, where `document` has written it, as nearly all that are read at a start. None: `parse` must judge."""
    try:
        (rule,) = json.loads(text)["policies"]
        sources = tuple(dict.fromkeys(map(_known_source, rule["from"])))
        tcp, udp = (_known_ports(tuple(rule.get(protocol.value, ()))) for protocol in (Protocol.TCP, Protocol.UDP))
        policy = AppPolicy(_checked_name(name), sources, _known_destination(rule["to"]), tcp=tcp, udp=udp, origin=STORE)
    except (InvalidInput, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return policy if sources and (tcp or udp) and document(policy) == text else None


def parse_applied(content: bytes, *, source: str) -> tuple[Policy, ...]:
    """The policies of a file that go into the store: one without a name gets that which `allowed` makes up.

    Raises InvalidSource.
    """
    found: dict[str, Policy] = {}
    for policy in parse(content, source=source):
        has_name = NAME.fullmatch(policy.name) is not None  # no name has a colon, as the place of a rule without one does
        made = replace(policy, name=policy.name if has_name else _made_up(policy), origin=STORE)
        if found.setdefault(made.name, made) != made:
            line, column = policy.origin.line, policy.origin.column
            raise InvalidSource((Mistake(source, line, column, f"name '{made.name}' is given twice", "give each its own"),))
    return tuple(found.values())


def allowed(source: str, to: str, ports: Sequence[str], *, name: str | None = None) -> Policy:
    """`policy allow SOURCE TO tcp/8080 …` as a policy of the store. Raises InvalidInput.

    Without a name one is made up of what is allowed, so that the same call twice is one policy.
    """
    if name is not None:
        _checked_name(name)
    given = [parse_argument(each) for each in ports]
    if not given:
        raise InvalidInput("no port is given", hint="e.g. tcp/8080, udp/53, tcp/9000-9010 or tcp/any")
    tcp, udp = (merged(found for kind, found in given if kind is protocol) for protocol in (Protocol.TCP, Protocol.UDP))
    policy = AppPolicy(name or "", (_source(source),), Pattern.parse(to), tcp=tcp, udp=udp, origin=STORE)
    return policy if name else replace(policy, name=_made_up(policy))


def _made_up(policy: Policy) -> str:
    """`web-to-api-ce5cb521`: from the first source, to the destination, and a digest of all that is allowed."""
    digest = hashlib.sha256(document(replace(policy, name="")).encode()).hexdigest()[:8]
    source = policy.sources if isinstance(policy.sources, Cidrs) else policy.sources[0]
    return f"{_word(source)}-to-{_word(policy.to)}-{digest}"


def _word(end: Pattern | Scope | Cidrs | Hosts) -> str:
    """One end of a policy in a name: `web`, `shop-all` of `acme/shop/*`, `acme-all` of `acme/*/*`, `same-space`;
    `192.0.2.0-24`, `api.example.com`, `example.org-all` of `*.example.org`.
    """
    match end:
        case Scope():
            return end.value
        case Pattern():
            return _short(end.app) if end.app else f"{_short(end.space or end.org)}-all"
        case Cidrs():
            return str(end.networks[0]).replace("/", "-")
        case Hosts():
            first = end.names[0]
            return f"{_short(first.name)}-all" if first.below else _short(first.name)


def _short(word: str) -> str:
    return word[:20].rstrip("-._")


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


def _policy(rule: Node, report: Report, *, called: str) -> Policy | None:
    found = table(rule, report, keys=KEYS, what="a rule with from, to and tcp or udp")
    if found is None:
        return None
    values = {key: value for key, (_, value) in found.items()}
    missing = [key for key in ("from", "to", *(() if called else ("name",))) if key not in values]
    for key in missing:
        report.wrong(rule, f"'{key}' is missing", hint="a rule has from, to and tcp or udp")
    if not {"tcp", "udp"} & values.keys():
        report.wrong(rule, "neither tcp nor udp is given", hint="e.g. tcp: 8080, or tcp: any for every port")
    name = read_name(values["name"], report) if "name" in values else called
    sources = _sources(values.get("from", BROKEN), report)
    to = _to(values.get("to", BROKEN), report)
    tcp, udp = (_ports(values[key], report) if key in values else () for key in ("tcp", "udp"))
    if name is None or to is None:
        return None
    return AppPolicy(name, sources, to, tcp=tcp, udp=udp, origin=Origin(report.file, rule.line, rule.column))


def _checked_name(text: str) -> str:
    if NAME.fullmatch(text) is None:
        hint = "use letters, digits and inner . _ -, 63 at most"
        raise InvalidInput(f"'{clipped(text)}' cannot name a policy", hint=hint)
    return text


read_name = parsed(_checked_name)


def _source(text: str) -> Pattern | Scope:
    if text in SCOPES:
        return SCOPES[text]
    if "/" not in text and not ADDRESS.fullmatch(text):
        raise InvalidInput(f"'{clipped(text)}' does not name apps", hint=FROM_HINT)
    return _apps(text)


def _apps(text: str) -> Pattern:
    if ADDRESS.fullmatch(text):
        raise InvalidInput(f"'{text}' is an address", hint="a policy names apps, never addresses: org/space/app")
    return Pattern.parse(text)


read_source = parsed(_source)


def _sources(node: Node, report: Report) -> tuple[Pattern | Scope, ...]:
    items = node.items if isinstance(node, Listing) else (node,)
    if not items:
        report.wrong(node, "an empty list allows nobody", hint=FROM_HINT)
    found = (read_source(item, report) for item in items)
    return tuple(dict.fromkeys(each for each in found if each is not None))


def _destination(text: str) -> Pattern:
    if text in SCOPES:
        raise InvalidInput(f"'to' cannot be {text}", hint="scopes are for 'from'; write org/space/app or org/space/*")
    return _apps(text)


_read_destination = parsed(_destination)
_known_source, _known_destination = lru_cache(MANY)(_source), lru_cache(MANY)(_destination)


@lru_cache(MANY)
def _known_ports(texts: tuple[str, ...]) -> tuple[Ports, ...]:
    return merged(map(parse_range, texts))


def _to(node: Node, report: Report) -> Pattern | None:
    if isinstance(node, Listing):
        report.wrong(node, "expected one app or pattern, found a list", hint="write one rule for each destination")
        return None
    return _read_destination(node, report)


def _ports(node: Node, report: Report) -> tuple[Ports, ...]:
    items = node.items if isinstance(node, Listing) else (node,)
    if not items:
        report.wrong(node, "an empty list opens no port", hint="leave the key out, or write any for every port")
    found = (_range(item, report) for item in items)
    return merged(each for each in found if each is not None)


def _range(node: Node, report: Report) -> Ports | None:
    if not isinstance(node, Scalar) or kind(node) is Kind.NULL:
        report.wrong(node, f"expected a port, found {described(node)}", hint=RANGE_HINT)
        return None
    if "," in node.text:
        report.wrong(node, f"'{clipped(node.text)}' is not a port or a range of ports", hint="several are a list: [80, 443]")
        return None
    if kind(node) in (Kind.TEXT, Kind.INTEGER):
        return reported(lambda: parse_range(node.text), node, report)
    report.wrong(node, f"expected a port, found {described(node)}", hint="write a plain decimal number, such as 8080")
    return None
