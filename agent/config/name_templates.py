"""`dns.names`: the names that every app has, as templates: `{app}.{space}.cpln.local`.

A placeholder stands for a whole label, so that a name leads back to one app and the names of two templates can be compared
label by label. What instances are called by them is decided in agent/identity/names.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from agent.config.problems import Report
from agent.config.source import Node, Table
from agent.config.texts import LABEL_TEXT, require_usable
from agent.config.values import QUOTES, parsed
from agent.errors import InvalidInput
from agent.wording import did_you_mean, listed

APP, SPACE, ORG, DOMAIN_PART = PLACEHOLDERS = ("{app}", "{space}", "{org}", "{domain}")
ANY = frozenset({APP, SPACE, ORG})  # parts that stand for any label
INDEX = "{index}"  # of an instance: any number
LONGEST_DOMAIN = 200  # characters, so that names below it have room
EXAMPLE = "{app}.{space}.cpln.local"


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """`parts` are placeholders and labels, `text` is them with dots between."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidInput for what gives no DNS names, or one name to all apps."""
        parts = tuple(text.split("."))
        for part in parts:
            _require_part(part, text)
        _require_whole(parts, text)
        return cls(parts)

    @property
    def text(self) -> str:
        """As it is written."""
        return ".".join(self.parts)

    @property
    def is_shared(self) -> bool:
        """Whether it can give several apps one name, which then is that app's that had it first."""
        return not {SPACE, ORG}.issubset(self.parts)

    def name(self, *, app: str, space: str, org: str, domain: str) -> str:
        """What it calls an app; it may be longer than DNS carries."""
        words = {APP: app, SPACE: space, ORG: org, DOMAIN_PART: domain}
        return ".".join(words.get(part, part) for part in self.parts)

    def zone(self, domain: str) -> str:
        """The domain that all its names are in."""
        parts = self._labels(domain)
        last = max(place for place, part in enumerate(parts) if part in ANY)
        return ".".join(parts[last + 1 :])

    def shapes(self, domain: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The parts of its names, and of those of instances, which have their number first; `domain` is several labels."""
        parts = self._labels(domain)
        return parts, (INDEX, *parts)

    def _labels(self, domain: str) -> tuple[str, ...]:
        fixed = domain.split(".") if self.parts[-1] == DOMAIN_PART else [self.parts[-1]]
        return (*self.parts[:-1], *fixed)


OWN = NameTemplate((APP, SPACE, ORG, DOMAIN_PART))
"""The name that every app has, whatever the configuration says: no two apps can share it."""


def _require_part(part: str, text: str) -> None:
    if part in PLACEHOLDERS or LABEL_TEXT.fullmatch(part):
        return
    if part.startswith("{") and part.endswith("}") and not {"{", "}"} & set(part[1:-1]):
        what = f"'{text}' has an unknown placeholder {part}"
        raise InvalidInput(what, hint=did_you_mean(part, PLACEHOLDERS, otherwise=f"possible: {listed(PLACEHOLDERS)}"))
    if "{" in part or "}" in part:
        raise InvalidInput(f"'{part}' in '{text}' is more than a placeholder", hint=f"put a dot on each side, e.g. {EXAMPLE}")
    raise InvalidInput(f"'{part}' in '{text}' is not a DNS label", hint="use a-z, 0-9 and inner hyphens, 63 at most")


def _require_whole(parts: Sequence[str], text: str) -> None:
    twice = next((each for each in PLACEHOLDERS if parts.count(each) > 1), None)
    fixed = ".".join(part for part in parts if part not in PLACEHOLDERS)
    if APP not in parts:
        raise InvalidInput(f"'{text}' gives all apps one name: it has no {APP}", hint=f"e.g. {EXAMPLE}")
    if twice is not None:
        raise InvalidInput(f"'{text}' has {twice} twice", hint=f"e.g. {EXAMPLE}")
    if parts[-1] in ANY or DOMAIN_PART in parts[:-1]:
        raise InvalidInput(f"'{text}' does not end in a domain", hint=f"end it with {DOMAIN_PART}, or as in {EXAMPLE}")
    require_usable(text)
    if parts[0].isdecimal():
        raise InvalidInput(f"'{text}' begins with a number, as instances' names do", hint="choose another first part")
    if len(fixed) > LONGEST_DOMAIN:
        raise InvalidInput(f"the fixed part of '{text}' has more than {LONGEST_DOMAIN} characters", hint="choose a shorter one")


def name_template(node: Node, report: Report) -> NameTemplate | None:
    """A reader of one. Without quotes YAML takes its braces for a mapping."""
    if isinstance(node, Table):
        report.wrong(node, "expected text, found a mapping", hint=QUOTES)
        return None
    return parsed(NameTemplate.parse)(node, report)


@dataclass(frozen=True, slots=True)
class TemplateConflict:
    """`place` is the index of the template that is wrong."""

    place: int
    what: str
    hint: str


def template_conflicts(
    templates: Sequence[NameTemplate], *, domain: str, route_domains: Sequence[str]
) -> Iterator[TemplateConflict]:
    """Templates whose names can be another's, or a route. Such a name would lead to one app or the other."""
    for place, template in enumerate(templates):
        earlier = [OWN, *(each for each in templates[:place] if each != OWN)]
        if template in templates[:place]:
            yield TemplateConflict(place, f"'{template.text}' is there twice", "remove one")
        elif template != OWN and (other := _with_same_names(template, earlier, domain)):
            what = f"'{template.text}' can give the name that '{other.text}' gives to another app or instance"
            yield TemplateConflict(place, what, "let the two end in different domains")
        elif below := _route_domain_of(template, domain=domain, route_domains=route_domains):
            what = f"'{template.text}' gives names below {below}, where only routes are"
            yield TemplateConflict(place, what, f"choose a domain outside of {listed(route_domains)}")


def _with_same_names(template: NameTemplate, others: Sequence[NameTemplate], domain: str) -> NameTemplate | None:
    own = template.shapes(domain)
    return next((each for each in others if any(_can_equal(a, b) for a in own for b in each.shapes(domain))), None)


def _route_domain_of(template: NameTemplate, *, domain: str, route_domains: Sequence[str]) -> str | None:
    """No route is in `domain`, so templates may be, whatever the route domains are."""
    if DOMAIN_PART in template.parts or f".{template.zone(domain)}".endswith(f".{domain}"):
        return None
    for each in route_domains:
        labels = tuple(each.split("."))
        if any(len(shape) > len(labels) and _can_equal(shape[-len(labels) :], labels) for shape in template.shapes(domain)):
            return each
    return None


def _can_equal(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and all(map(_can_be_one, one, other))


def _can_be_one(one: str, other: str) -> bool:
    if one in ANY or other in ANY or one == other:
        return True
    return INDEX in (one, other) and (one if other == INDEX else other).isdecimal()
