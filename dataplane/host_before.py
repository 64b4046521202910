"""What the host was before cellnet changed it, of what has no owner: settings of the kernel, and empty chains of iptables-nft.

It is looked at before the first change and kept until cellnet is taken off the host (dataplane/removal.py).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Self

from dataplane.netlink.base_chains import places, remove_unused
from dataplane.tables import ChainKey
from host import sysctl
from host.errors import HostRefused

FORWARDING = "net/ipv4/ip_forward"
CONF = "net/ipv4/conf"
REDIRECTS = f"{CONF}/all/accept_redirects"  # the kernel sets it, and `forwarding` of each link, with FORWARDING


@dataclass(frozen=True, slots=True)
class HostBefore:
    """`settings` by key; `chains` of nf_tables, None where they could not be seen."""

    settings: Mapping[str, str]
    chains: frozenset[ChainKey] | None

    @classmethod
    def seen(cls) -> Self:
        """As it is now, in the calling thread's namespace."""
        links = [link for link in sysctl.names(CONF) if link != "all"]
        settings = sysctl.read([FORWARDING, REDIRECTS, *(f"{CONF}/{link}/forwarding" for link in links)])
        try:
            return cls(settings, places())
        except HostRefused:
            return cls(settings, None)

    def text(self) -> str:
        """For a file."""
        chains = None if self.chains is None else [astuple(each) for each in sorted(self.chains)]
        return json.dumps({"settings": dict(self.settings), "chains": chains})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, TypeError, KeyError, AttributeError for what `text` has not written."""
        found = json.loads(text)
        settings, chains = {str(key): str(value) for key, value in found["settings"].items()}, found["chains"]
        if chains is None:
            return cls(settings, None)
        return cls(settings, frozenset(ChainKey(int(family), str(table), str(chain)) for family, table, chain in chains))

    def restore(self) -> tuple[str, ...]:
        """Put back what is otherwise, in the calling thread's namespace; each in words. Raises HostRefused."""
        settings = tuple(self._restore_settings())
        gone = () if self.chains is None else remove_unused(self.chains)
        tables = sorted({f"{each.table} of IPv{each.family}" for each in gone})
        return (*settings, *(f"empty chains in the table {table}" for table in tables))

    def _restore_settings(self) -> Iterator[str]:
        if self.settings.get(FORWARDING) != "0":  # it is as it was, and what was set since is not ours
            return
        if sysctl.read([FORWARDING]) != {FORWARDING: "0"}:
            sysctl.write({FORWARDING: "0"})
            yield f"setting {FORWARDING} 0"
        now = sysctl.read(self.settings)  # of those whose links are there still
        sysctl.write({key: self.settings[key] for key, value in now.items() if value != self.settings[key]})
