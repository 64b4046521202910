"""Names of hosts of the outside as users write them: `api.example.com`, or `*.example.org` for all names below that."""

import re

from agent.config.values import clipped
from agent.errors import InvalidInput
from agent.model.outside import HostPattern
from agent.policy.language.networks import looks_like_address

LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # others' names may have an underscore
LONGEST = 253  # characters of a name
HINT = "a full name such as api.example.com, or *.example.org for all below it"
STAR = "*."


def looks_like_host(text: str) -> bool:
    """Whether a host is meant by it, right or wrong: no app's name has a dot."""
    return "://" in text or ("." in text and "/" not in text)


def parse_host(text: str) -> HostPattern:
    """Raises InvalidInput, with the name that is meant where that can be told."""
    _refuse_others(text)
    if text != text.lower():
        raise InvalidInput(f"'{clipped(text)}' has capital letters", hint=f"did you mean '{clipped(text.lower())}'?")
    if text.endswith("."):
        raise InvalidInput(f"'{clipped(text)}' ends in a dot", hint=f"did you mean '{clipped(text.rstrip('.'))}'?")
    name = text.removeprefix(STAR)
    if "*" in name:
        raise InvalidInput(
            f"'{clipped(text)}' has a star where none can be", hint="a star is the whole first part: *.example.org"
        )
    if len(name) > LONGEST:
        raise InvalidInput(f"'{clipped(text)}' is too long", hint=f"a name has {LONGEST} characters at most")
    for label in name.split("."):
        if LABEL.fullmatch(label) is None:
            hint = "use a-z, 0-9, hyphens inside and underscores, 63 at most between dots"
            raise InvalidInput(f"'{clipped(label)}' in '{clipped(text)}' is not a DNS label", hint=hint)
    if name == text and "." not in text:
        raise InvalidInput(f"'{text}' has no dot", hint=f"{HINT}; an app is org/space/app")
    return HostPattern(name, below=name != text)


def _refuse_others(text: str) -> None:
    """What is no name of a host, but something near to it."""
    if looks_like_address(text.removeprefix(STAR)):
        raise InvalidInput(f"'{clipped(text)}' is an address", hint="addresses stand in `cidr:`")
    if text in ("*", STAR):
        raise InvalidInput(f"'{text}' is no name of a host", hint="all addresses are `cidr: 0.0.0.0/0`")
    if not text.isascii():
        hint = "write it as DNS carries it: each part that is not ASCII begins with xn--"
        raise InvalidInput(f"'{clipped(text)}' is not ASCII", hint=hint)
    host, *rest = re.split("[:/]", text.rpartition("://")[2], maxsplit=1)
    if rest or host != text:
        hint = f"did you mean '{clipped(host)}'? ports stand in `tcp:`" if host else HINT
        raise InvalidInput(f"'{clipped(text)}' is more than a name", hint=hint)
