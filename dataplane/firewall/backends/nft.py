"""The nft backend: iptables-nft-restore and -save. One call per family and change; each table changes at once or not at all.

The kernel has taken the rules long before iptables-nft-restore ends: before that the tool closes its socket, which waits until
no processor can still see the old rules (8 to 20 ms). So the input has a last line that the tool echoes after the last commit.
"""

import math
import struct
from dataclasses import dataclass

from dataplane.firewall.backends.driver import TOOL_SECONDS, FirewallTables
from dataplane.firewall.backends.restore import restore_text
from dataplane.firewall.backends.save import read_both
from dataplane.plan import ChainDelta, JumpDelta
from host.netlink.messages import NETLINK_NETFILTER, contents
from host.netlink.socket import connect
from host.process import run_until

DONE = b"# enforced"
TOOLS = {4: "iptables-nft", 6: "ip6tables-nft"}
GET_GENERATION, GENERATION = 0xA10, 1  # NFT_MSG_GETGEN of subsystem 10, NFTA_GEN_ID
FIRST, LAST = 1, 0xFFFFFFFF  # generations begin again after the last


@dataclass(frozen=True, slots=True)
class NftFirewall:
    """`timeout` seconds bound each call of a tool."""

    timeout: float = TOOL_SECONDS
    believed: float = math.inf

    def stamp(self) -> int | None:
        """The generation of all nftables rules of the namespace, which the kernel counts: one for each change."""
        with connect(NETLINK_NETFILTER) as link:
            (answer,) = link.ask(GET_GENERATION, [bytes(4)])
        return None if isinstance(answer, OSError) else struct.unpack("!I", contents(answer, start=4)[GENERATION])[0]

    def stamp_after(self, before: int, *, chains: ChainDelta, jumps: JumpDelta) -> int | None:
        """One more for each table that `restore_text` changes. To empty a chain is no change where it is empty: not sure."""
        surely = {key for key, rules in chains.put.items() if rules} | {*chains.drop, *jumps.put, *jumps.drop}
        tables = {(key.family, key.table) for key in surely}
        if any((key.family, key.table) not in tables for key in chains.put):
            return None
        return (before - FIRST + len(tables)) % LAST + FIRST

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
