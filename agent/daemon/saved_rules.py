"""Files of saved iptables rules that hold ours, which name sets that no boot has yet: the host's own rules fail with them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.model.status import Part, Problem
from dataplane.tables import CHAIN_PREFIX

FILES = tuple(map(Path, (
    "/etc/iptables/rules.v4", "/etc/iptables/rules.v6", "/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables",
)))  # fmt: skip


class SavedRules(Part):
    """Looks at the files whenever the status is asked for; one that has not changed is not read again."""

    def __init__(self, files: Sequence[Path] = FILES) -> None:
        self._files = files
        self._seen: dict[Path, tuple[int, bool]] = {}

    def problems(self) -> Iterator[Problem]:
        """One for each file with rules of ours."""
        for path in self._files:
            if self._holds_ours(path):
                what = f"{path} holds rules of cellnet: a boot refuses the whole file, and the host's own firewall is missing"
                yield Problem("firewall", what, f"sed -i /{CHAIN_PREFIX[:-1]}/d {path}, and see docs/firewalls.md")

    def _holds_ours(self, path: Path) -> bool:
        try:
            changed = path.stat().st_mtime_ns
            if self._seen.get(path, (None,))[0] != changed:
                self._seen[path] = changed, CHAIN_PREFIX.encode() in path.read_bytes()
        except OSError:
            return False
        return self._seen[path][1]
