"""`policy suggest`: the policies that would let through what was refused lately, or passed by an audit alone, as a file to look
at.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import click

from agent.cli.app_names import APP
from agent.cli.errors import print_warnings
from agent.cli.output import json_option, print_json
from agent.client.answer import Fields
from agent.client.location import Location

KINDS = ("policy", "egress", "ingress")
"""Reasons that a policy mends, the least wide policies first: between two apps, then those with the outside."""
MOST_PORTS = 20  # of one protocol: more look like a scan


@dataclass(slots=True)
class Wish:
    """What one policy would let through."""

    kind: str
    source: str
    to: str
    names: tuple[str, ...] = ()
    ports: dict[str, set[int]] = field(default_factory=dict)
    refused: int = 0
    audited: int = 0
    last: str = ""

    @property
    def is_scan(self) -> bool:
        """Whether more ports were asked for than an app has."""
        return any(len(each) > MOST_PORTS for each in self.ports.values())

    def rule(self) -> Mapping[str, object]:
        """As a policy file has it."""
        ends: dict[str, object] = {"from": self.source, "to": self.to}
        if self.kind == "ingress":
            ends["from"] = {"cidr": f"{self.source}/32"}
        if self.kind == "egress":
            ends["to"] = {"host": list(self.names)} if self.names else {"cidr": f"{self.to}/32"}
        opened = {each: sorted(ports) for each, ports in sorted(self.ports.items()) if each != "icmp"}
        echo = {"icmp": "echo"} if "icmp" in self.ports else {}
        counts = (("was refused", self.refused), ("passed by an audit", self.audited))
        found = " and ".join(f"{what} {'once' if count == 1 else f'{count} times'}" for what, count in counts if count)
        return {**ends, **opened, **echo, "note": f"{found}, the last at {self.last}"}


@click.command()
@click.option("--since", default="1h", show_default=True, metavar="SPAN", help="How far back: 30m, 1h, 7d.")
@click.option("--app", type=APP, metavar="APP", help="Only what APP sent, or what was for it.")
@json_option
@click.pass_obj
def suggest(location: Location, since: str, app: str | None, as_json: bool) -> None:
    """Write the policies that would let through what this cell refused lately, or let pass by an audit alone, to be looked at
    and applied.

    What is no policy's matter is left out: forged addresses, limits, ports of the host, and what looks like a scan. The
    outside is an address, or the names that led to it.
    """
    from agent.config.texts import duration

    query = {} if app is None else {"app": app}
    found = location.client().get("/v1/denied/pairs", **query)
    pairs, after = list(found.at("pairs").each()), datetime.now(UTC) - duration(since)
    wishes = list(wished(pairs, after=after))
    print_warnings([f"{each.source} asked {each.to} for more ports than are suggested" for each in wishes if each.is_scan])
    print_warnings(list(seen_elsewhere(pairs, after=after)))
    rules = [each.rule() for each in wishes if not each.is_scan]
    if as_json:
        print_json({"policies": rules})
    else:
        click.echo(written(rules))


def wished(pairs: Iterable[Fields], *, after: datetime) -> Iterator[Wish]:
    """One for each two ends, the least wide first, then what was refused most. What a policy allows by now is no wish."""
    found: dict[tuple[str, str, str], Wish] = {}
    for each in pairs:
        source, to, is_audit = each.text("from"), each.text("to"), each.text("reason") == "audit"
        kind = _kind(source, to) if is_audit else each.text("reason")
        protocol, port = each.text("protocol"), int(each.text("port"))
        if each.flag("allowed") or kind not in KINDS or datetime.fromisoformat(each.text("last")) < after:
            continue
        if protocol not in ("tcp", "udp", "icmp") or not _is_named(kind, source, to):
            continue
        if (protocol == "icmp") == bool(port):  # of ICMP policies speak of pings alone, which have none
            continue
        names = tuple(each.texts("names")) if kind == "egress" else ()
        to = " ".join(names) or to  # a name has several addresses, now and over time
        wish = found.setdefault((kind, source, to), Wish(kind, source, to, names))
        wish.ports.setdefault(protocol, set()).add(port)
        wish.refused += 0 if is_audit else int(each.text("count"))
        wish.audited += int(each.text("count")) if is_audit else 0
        wish.last = max(wish.last, each.text("last"))
    yield from sorted(
        found.values(), key=lambda each: (KINDS.index(each.kind), -each.refused - each.audited, each.source, each.to)
    )


def _kind(source: str, to: str) -> str:
    """Which policies speak of two ends like these."""
    if "/" not in to:
        return "egress"
    return "policy" if "/" in source else "ingress"


def seen_elsewhere(pairs: Iterable[Fields], *, after: datetime) -> Iterator[str]:
    """Of calls in tunnels that this cell has refused, whose ports only the cell of their caller knows."""
    for each in pairs:
        is_tunnel = (each.text("reason"), each.text("protocol"), each.text("port")) == ("policy", "tcp", "0")
        if is_tunnel and datetime.fromisoformat(each.text("last")) >= after:
            source, to = each.text("from"), each.text("to")
            yield f"{source} called {to} in tunnels: 'cellnet policy suggest' on its own cell has the ports"


def _is_named(kind: str, source: str, to: str) -> bool:
    """Whether the end that must be an app is one."""
    return ("/" in source or kind == "ingress") and ("/" in to or kind == "egress")


def written(rules: Iterable[Mapping[str, object]]) -> str:
    """The text of a policy file."""
    lines = [f"  - {{{', '.join(f'{key}: {_value(value)}' for key, value in rule.items())}}}" for rule in rules]
    return "\n".join(("policies:", *lines)) if lines else "policies: []"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]" if len(value) > 1 else str(value[0])
    text = str(value)
    return f'"{text}"' if ":" in text or "," in text else text
