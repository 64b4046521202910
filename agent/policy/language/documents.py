"""A policy written down: as the document that the store keeps, and under a made-up name where it has none."""

import hashlib
import json
from dataclasses import replace

from agent.model.outside import Cidrs, Hosts
from agent.model.policy import Pattern, Policy, Protocol, Scope
from agent.policy.language.terms import AUDIT, written_until

SHORT = 20  # characters of one end in a made-up name


def document(policy: Policy) -> str:
    """One policy as the text of a file (JSON, which is YAML); agent/policy/language/language.py reads it again."""
    rule = _opened(policy)
    if policy.audit:
        rule["mode"] = AUDIT
    if policy.until is not None:
        rule["until"] = written_until(policy.until)
    if policy.note:
        rule["note"] = policy.note
    return json.dumps({"policies": [rule]}, ensure_ascii=False)


def _opened(policy: Policy) -> dict[str, object]:
    """What it allows, whenever."""
    rule: dict[str, object] = {"name": policy.name, "from": written(policy.sources), "to": written(policy.to)}
    for protocol in (Protocol.TCP, Protocol.UDP):
        if ports := policy.ports(protocol):
            rule[protocol.value] = list(map(str, ports))
    if policy.icmp:
        rule["icmp"] = "echo"
    return rule


def written(end: tuple[Pattern | Scope, ...] | Pattern | Cidrs | Hosts) -> object:
    """One end of a policy, in the words of a policy file."""
    match end:
        case tuple():
            return [each.value if isinstance(each, Scope) else str(each) for each in end]
        case Pattern():
            return str(end)
        case Cidrs(excepted=()):
            return {"cidr": list(map(str, end.networks))}
        case Cidrs():
            return {"cidr": list(map(str, end.networks)), "except": list(map(str, end.excepted))}
        case Hosts():
            return {"host": list(map(str, end.names))}


def made_up_name(policy: Policy) -> str:
    """`web-to-api-ce5cb521`: from the first source, to the destination, and a digest of all that is allowed.

    The same with another mode, another end or another note has the same name, and so takes its place.
    """
    allowed = json.dumps({"policies": [_opened(replace(policy, name=""))]})
    digest = hashlib.sha256(allowed.encode()).hexdigest()[:8]
    source = policy.sources if isinstance(policy.sources, Cidrs) else policy.sources[0]
    return f"{_word(source)}-to-{_word(policy.to)}-{digest}"


def _word(end: Pattern | Scope | Cidrs | Hosts) -> str:
    """`web`; `shop-all` of `acme/shop/*`, `acme-all` of `acme/*/*`; `same-space`; `192.0.2.0-24`; `example.org-all` of
    `*.example.org`.
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
    return word.lstrip("_")[:SHORT].rstrip("-._")
