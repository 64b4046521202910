"""The nft backend: iptables-nft-restore and -save. One call per family and change; each table changes at once or not at all.

The kernel has taken the rules long before iptables-nft-restore ends: before that the tool closes its socket, which waits until
no processor can still see the old rules (8 to 20 ms). So the input has a last line that the tool echoes after the last commit.
"""

from dataclasses import dataclass

from dataplane.firewall.driver import TOOL_SECONDS, FirewallTables
from dataplane.firewall.restore import restore_text
from dataplane.firewall.save import read_both
from dataplane.plan import ChainDelta, JumpDelta
from host.process import run_until

DONE = b"# enforced"
TOOLS = {4: "iptables-nft", 6: "ip6tables-nft"}


@dataclass(frozen=True, slots=True)
class NftFirewall:
    """`timeout` seconds bound each call of a tool."""

    timeout: float = TOOL_SECONDS

    def read(self) -> FirewallTables:
        """Ours of both families. Raises HostRefused."""
        return read_both(TOOLS, timeout=self.timeout)

    def apply(self, *, chains: ChainDelta, jumps: JumpDelta) -> None:
        """IPv6 first: it only ever closes. Raises HostRefused with the tool's words."""
        for family in (6, 4):
            text = restore_text(family=family, chains=chains, jumps=jumps)
            if text:
                self.restore(text, family=family)

    def restore(self, text: str, *, family: int) -> None:
        """Write what `restore_text` says; each COMMIT in it is a change of its own. Raises HostRefused."""
        argv = [f"{TOOLS[family]}-restore", "--noflush", "-w", "--verbose"]
        run_until(argv, line=DONE, stdin=text.encode() + DONE + b"\n", timeout=self.timeout)
