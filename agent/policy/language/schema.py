"""The JSON Schema of a policy file, for editors. The parser stays the judge: a schema cannot see a reversed range,
a name given twice, or how a number was written.
"""

from collections.abc import Mapping

from agent.model.names import LABEL
from agent.model.policy import ECHO, Scope
from agent.policy.language import host_names
from agent.policy.language.forms import ENFORCED, Form
from agent.policy.language.language import NAME
from agent.policy.language.terms import AUDIT, LONGEST_NOTE, MOMENT

Schema = Mapping[str, object]

PART = f"(?:{LABEL.pattern.replace('(', '(?:')})"
PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
APPS = rf"^{PART}/(?:{PART}/(?:{PART}|\*)|\*/\*)$"
BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
NETWORK = rf"^{BYTE}(?:\.{BYTE}){{3}}(?:/(?:3[0-2]|[12]?[0-9]))?$"
DOTTED = rf"{host_names.LABEL.pattern}(?:\.{host_names.LABEL.pattern})"
HOST = rf"^(?!(?:\*\.)?[0-9]+(?:\.[0-9]+)+$)(?:{DOTTED}+|\*\.{DOTTED}*)$"
UNTIL = f"^{MOMENT.pattern}$"
NOTE = r"^[^\x00-\x1f]*[^\x00-\x20][^\x00-\x1f]*$"
SCOPES = "|".join(each.value for each in Scope)


def schema() -> Schema:
    """The schema, draft 2020-12, ready for `json.dumps`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cellnet policies",
        "description": "Who may reach whom. What no policy allows is refused; order never matters.",
        "type": "object",
        "required": ["policies"],
        "additionalProperties": False,
        "properties": {"policies": {"description": "[] means none", "type": "array", "items": _rule()}},
    }


def _rule() -> Schema:
    kinds = [_between_apps(), *([_egress()] if _outside() else []), *([_ingress()] if ENFORCED[Form.FROM_CIDR] else [])]
    opening = {"tcp": _ports("TCP"), "udp": _ports("UDP"), **({"icmp": _echo()} if ENFORCED[Form.ECHO] else {})}
    return {
        "type": "object",
        "required": ["from", "to"],
        "allOf": [{"anyOf": [{"required": [each]} for each in opening]}, {"anyOf": kinds}],
        "additionalProperties": False,
        "properties": {
            "name": _text(f"^{NAME.pattern}$", "shown in logs and by `policy check`; unique within the file"),
            "from": _end({"networks": Form.FROM_CIDR}),
            "to": _end({"networks": Form.TO_CIDR, "names of hosts": Form.TO_HOST}),
            **opening,
            "mode": _text(f"^{AUDIT}$", "audit: what no other policy allows passes, and is recorded as what would be refused"),
            "until": _text(UNTIL, "2026-12-31T18:00Z: from then on it allows nothing, and what it allowed is cut"),
            "note": {**_text(NOTE, "why it is there: one line"), "maxLength": LONGEST_NOTE},
        },
    }


def _end(outside: Mapping[str, Form]) -> Schema:
    known = [words for words, form in outside.items() if ENFORCED[form]]
    return {"description": f"apps, or {' or '.join(known)} of the outside" if known else "apps"}


def _between_apps() -> Schema:
    sources = {
        **_one_or_list({"type": "string", "pattern": f"^(?:{SCOPES})$|{APPS}"}),
        "description": "org/space/app, org/space/*, org/*/*, same-space, same-org, or a list of these",
    }
    return {"properties": {"from": sources, "to": _text(APPS, "org/space/app, org/space/* or org/*/*")}}


def _egress() -> Schema:
    sources = _one_or_list({"type": "string", "pattern": APPS})
    return {"properties": {"from": sources, "to": {"anyOf": _outside()}}}


def _ingress() -> Schema:
    return {"properties": {"from": _cidrs(), "to": {"type": "string", "pattern": APPS}}}


def _outside() -> list[Schema]:
    hosts = {**_one_or_list({"type": "string", "pattern": HOST}), "description": "api.example.com, *.example.org, or a list"}
    by_name = {"type": "object", "required": ["host"], "additionalProperties": False, "properties": {"host": hosts}}
    return [each for each, form in ((_cidrs(), Form.TO_CIDR), (by_name, Form.TO_HOST)) if ENFORCED[form]]


def _cidrs() -> Schema:
    networks = _one_or_list({"type": "string", "pattern": NETWORK})
    properties = {
        "cidr": {**networks, "description": "192.0.2.0/24, 192.0.2.7, or a list"},
        "except": {**networks, "description": "parts of them that are not meant"},
    }
    return {"type": "object", "required": ["cidr"], "additionalProperties": False, "properties": properties}


def _echo() -> Schema:
    return {"type": "string", "pattern": f"^{ECHO}$", "description": "echo: a ping passes"}


def _text(pattern: str, description: str) -> Schema:
    return {"type": "string", "pattern": pattern, "description": description}


def _ports(protocol: str) -> Schema:
    port = {"type": "integer", "minimum": 1, "maximum": 65535}
    text = {"type": "string", "pattern": f"^(?:any|{PORT}(?:-{PORT})?)$"}
    description = f"{protocol} ports: 8080, 9000-9010, any, or a list of these"
    return {**_one_or_list({"anyOf": [port, text]}), "description": description}


def _one_or_list(item: Schema) -> Schema:
    return {"anyOf": [item, {"type": "array", "minItems": 1, "items": item}]}
