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
from agent.model.policy import between_apps
from agent.policy.language import parse


@dataclass(frozen=True, slots=True)
class Checked:
    """One file, its `content` as it was read: how many policies it holds, how many open UDP between apps; or its mistakes."""

    path: Path
    policies: int = 0
    of_udp: int = 0
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
            "policies": self.policies,
            "problems": [
                {"line": each.line or None, "column": each.column or None, "message": each.message, "hint": each.hint}
                for each in self.problems
            ],
        }


def check_file(path: Path, *, inside: Inside) -> Checked:
    """Read and parse; `-` is standard input."""
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        found = parse(content, source=str(path), inside=inside)
        return Checked(path, policies=len(found), of_udp=sum(bool(each.udp) for each in between_apps(found)), content=content)
    except InvalidSource as error:
        return Checked(path, problems=error.problems)
    except OSError as error:
        return Checked(path, problems=(Mistake(str(path), 0, 0, f"cannot be read: {error.strerror}"),))


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this host's configuration says of policies: whether there is mutual TLS, and what is the cell's own."""

    mutual_tls: bool = False
    inside: Inside = NOTHING_INSIDE


def host_facts(location: Location) -> HostFacts:
    """Those that hold where no configuration can be read say nothing against a file."""
    try:
        config = location.load()
    except RAISED:
        return HostFacts()
    return HostFacts(config.tls.mtls is not Mtls.NONE, Inside.of(config))
