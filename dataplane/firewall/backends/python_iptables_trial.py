"""Whether python-iptables can be relied on here. It repeats structures of libxtables by hand, and each release of that may
change them: with Debian 13's it refuses ports of UDP, another may take a rule for a different one, or crash.

So it is tried out in a process and a network namespace of its own before the agent loads it: what it writes is compared with
what iptables-legacy-save reads. Where they differ, all changes are left to iptables-legacy-restore.
"""

import functools
import sys

from dataplane.firewall.backends.driver import TOOL_SECONDS
from dataplane.firewall.backends.save import read_save
from dataplane.plan import Delta
from dataplane.tables import ChainKey
from host import syscalls
from host.errors import HostRefused
from host.process import run

# one of each kind that python_iptables writes
CHAINS = {
    ChainKey(4, "filter", "CELLNET-FORWARD"): (
        "-d 192.0.2.1/32 -g CELLNET-TO",
        "-d 192.0.2.16/28 -g CELLNET-TO",
        "-p udp -j CELLNET-TO",
        "-j CELLNET-TO",
    ),
    ChainKey(4, "filter", "CELLNET-TO"): (
        "-m mark --mark 0x1/0xf -g CELLNET-HOST",
        "-m mark --mark 0x12/0xffff -j ACCEPT",
        "-p tcp -m mark --mark 0x12/0xffff -j ACCEPT",
        "-p tcp -m mark --mark 0x12/0xffff -m tcp --dport 80 -j ACCEPT",
        "-p udp -m mark --mark 0x12/0xffff -m udp --dport 53:60 -j ACCEPT",
        "-p tcp -m tcp --dport 22:23 -j CELLNET-HOST",
        "-p tcp -m tcp --dport 24 -m connlimit --connlimit-above 9 --connlimit-mask 32 --connlimit-saddr -j CELLNET-HOST",
        "-p udp -m udp --dport 53 -j ACCEPT",
        "-j DROP",
    ),
    ChainKey(4, "filter", "CELLNET-HOST"): (),
}
JUMPS = {ChainKey(4, "filter", "FORWARD"): (0,)}


@functools.cache
def passed() -> bool:
    """Whether the library writes the rules here that it is given."""
    try:
        run([sys.executable, "-P", "-m", __name__], timeout=TOOL_SECONDS)
    except HostRefused:
        return False
    return True


def trial() -> bool:
    """The trial itself, in a new namespace that the calling thread is in from then on. Raises HostRefused."""
    from dataplane.firewall.backends import python_iptables

    syscalls.unshare(syscalls.CLONE_NEWNET)
    python_iptables.write(Delta(CHAINS, {}, {}, {}), Delta(JUMPS, {}, {}, {}))
    found = read_save(run(["iptables-legacy-save", "-t", "filter"], timeout=TOOL_SECONDS).decode(), family=4)
    return (found.chains, found.jumps) == (CHAINS, JUMPS)


if __name__ == "__main__":
    sys.exit(not trial())
