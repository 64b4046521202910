"""The JSON Schema of a policy file, for editors. The parser stays the judge: a schema cannot see a reversed range,
a name given twice, or how a number was written.
"""

from collections.abc import Mapping

from agent.model.names import LABEL
from agent.model.policy import Scope
from agent.policy.language import NAME

Schema = Mapping[str, object]

PART = f"(?:{LABEL.pattern.replace('(', '(?:')})"
PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
APPS = rf"^{PART}/(?:{PART}/(?:{PART}|\*)|\*/\*)$"
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
    return {
        "type": "object",
        "required": ["from", "to"],
        "anyOf": [{"required": ["tcp"]}, {"required": ["udp"]}],
        "additionalProperties": False,
        "properties": {
            "name": _text(f"^{NAME.pattern}$", "shown in logs and by `policy check`; unique within the file"),
            "from": {
                **_one_or_list({"type": "string", "pattern": f"^(?:{SCOPES})$|{APPS}"}),
                "description": "org/space/app, org/space/*, org/*/*, same-space, same-org, or a list of these",
            },
            "to": _text(APPS, "org/space/app, org/space/* or org/*/*"),
            "tcp": _ports("TCP"),
            "udp": _ports("UDP"),
        },
    }


def _text(pattern: str, description: str) -> Schema:
    return {"type": "string", "pattern": pattern, "description": description}


def _ports(protocol: str) -> Schema:
    port = {"type": "integer", "minimum": 1, "maximum": 65535}
    text = {"type": "string", "pattern": f"^(?:any|{PORT}(?:-{PORT})?)$"}
    description = f"{protocol} ports: 8080, 9000-9010, any, or a list of these"
    return {**_one_or_list({"anyOf": [port, text]}), "description": description}


def _one_or_list(item: Schema) -> Schema:
    return {"anyOf": [item, {"type": "array", "minItems": 1, "items": item}]}
