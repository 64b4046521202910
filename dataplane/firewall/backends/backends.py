"""Which backend: the configured one, or the one that the host already uses. Both see every packet, so when another is chosen
our rules are removed from the old one, once the new ones are in place.
"""

from enum import Enum
from pathlib import Path

from dataplane.firewall.backends.cached import CachedFirewall
from dataplane.firewall.backends.driver import TOOL_SECONDS, Firewall, FirewallTables
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.firewall.matches import STRIP_MPTCP
from dataplane.plan import Delta
from host.errors import HostRefused
from host.process import run

LOADED = Path("/proc/thread-self/net/ip_tables_names")  # legacy tables of this namespace; reading it loads none

MPTCP = Path("/proc/sys/net/mptcp")


class Backend(Enum):
    """How rules are written."""

    NFT = "nft"
    LEGACY = "legacy"


def firewall(backend: Backend) -> Firewall:
    """The driver. python-iptables is loaded only where it is used."""
    if backend is Backend.NFT:
        return CachedFirewall(NftFirewall())
    from dataplane.firewall.backends.legacy import LegacyFirewall

    return CachedFirewall(LegacyFirewall())


def detect() -> Backend:
    """What the host uses, in the calling thread's namespace: where our rules are; else where others' are; else what
    `iptables` is on this host; else nft. Raises HostRefused where iptables is missing."""
    legacy_loaded = LOADED.exists() and bool(LOADED.read_text().split())
    for backend in Backend:
        if (backend is Backend.NFT or legacy_loaded) and firewall(backend).read().chains:
            return backend
    if legacy_loaded and _holds_rules("iptables-legacy-save"):
        return Backend.NFT if _holds_rules("iptables-nft-save") else Backend.LEGACY
    return Backend.LEGACY if b"legacy" in run(["iptables", "--version"], timeout=TOOL_SECONDS) else Backend.NFT


def clear_other(backend: Backend) -> int:
    """Remove our chains from the backend that is not in use, and return how many there were. Raises HostRefused."""
    other = next(each for each in Backend if each is not backend)
    if other is Backend.LEGACY and not (LOADED.exists() and LOADED.read_text().split()):
        return 0
    try:
        found = firewall(other).read()
    except HostRefused:
        return 0  # a host without the other tool has no rules there
    if found.chains or found.jumps:
        _clear(firewall(other), found)
    return len(found.chains)


def can_strip_mptcp(backend: Backend) -> bool:
    """Whether there is any MPTCP here, and the target that takes its option out of SYNs, tried in a namespace of its own."""
    if not MPTCP.exists():
        return False
    rule = f"*mangle\n-A FORWARD -p tcp -j {STRIP_MPTCP}\nCOMMIT\n".encode()
    try:
        run(["unshare", "--net", f"iptables-{backend.value}-restore", "-w", "5"], stdin=rule, timeout=TOOL_SECONDS)
    except HostRefused:
        return False
    return True


def _clear(driver: Firewall, found: FirewallTables) -> None:
    driver.apply(chains=Delta({}, {}, {}, found.chains), jumps=Delta({}, {}, {}, found.jumps))


def _holds_rules(tool: str) -> bool:
    return any(line.startswith("-A") for line in run([tool], timeout=TOOL_SECONDS).decode().splitlines())
