"""What `policy validate` finds in a file: the agent's own parser, run here. Imported only by that command, for its speed."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.client.location import Location
from agent.config.config import Mtls
from agent.config.problems import InvalidSource, Mistake
from agent.errors import RAISED
from agent.model.outside import NOTHING_INSIDE, Inside
from agent.model.policy import IngressPolicy, Policy, Ports, between_apps
from agent.policy.language.language import parse
from dataplane.state import TLS_PORT


@dataclass(frozen=True, slots=True)
class Checked:
    """One file, its `content` as it was read: the policies that are `found` in it, how many open UDP between apps, and how many
    let the outside in to other ports than that where TLS is terminated; or its mistakes."""

    path: Path
    found: tuple[Policy, ...] = ()
    of_udp: int = 0
    from_outside: int = 0
    problems: tuple[Mistake, ...] = ()
    content: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the agent would take it."""
        return not self.problems

    @property
    def warning(self) -> str:
        """Why the agent would not read a good file at all, empty where it would."""
        if not self.ok or str(self.path) == "-" or self.path.suffix == ".yaml":
            return ""
        hint = f"rename it to {self.path.with_suffix('.yaml').name}"
        return f"{self.path}: the agent reads only files whose name ends in .yaml; hint: {hint}"

    def json(self) -> Mapping[str, object]:
        """For `--json`."""
        return {
            "file": str(self.path),
            "ok": self.ok,
            "policies": len(self.found),
            "problems": [
                {"line": each.line or None, "column": each.column or None, "message": each.message, "hint": each.hint}
                for each in self.problems
            ],
        }


def check_file(path: Path, *, facts: "HostFacts") -> Checked:
    """Read and parse; `-` is standard input."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        found = parse(content, source=str(path), inside=facts.inside)
        of_udp, tls = sum(bool(each.udp) for each in between_apps(found)), (Ports(facts.tls_port, facts.tls_port),)
        within = [each for each in found if isinstance(each, IngressPolicy) and (each.udp or each.tcp not in ((), tls))]
        return Checked(path, found, of_udp=of_udp, from_outside=len(within), content=content)
    except InvalidSource as error:
        return Checked(path, problems=error.problems)
    except OSError as error:
        return Checked(path, problems=(Mistake(str(path), 0, 0, f"cannot be read: {error.strerror}"),))


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this host's configuration says of policies: whether there is mutual TLS, what is the cell's own, and where TLS is
    terminated."""

    mutual_tls: bool = False
    inside: Inside = NOTHING_INSIDE
    tls_port: int = TLS_PORT


def host_facts(location: Location) -> HostFacts:
    """Those that hold where no configuration can be read say nothing against a file."""
    try:
        config = location.load()
    except RAISED:
        return HostFacts()
    return HostFacts(config.tls.mtls is not Mtls.NONE, Inside.of(config), config.tls.port)
