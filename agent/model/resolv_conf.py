"""What a container's resolver goes by: the name server of its cell, and where short names are looked for."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from agent.model.names import AppName

NDOTS = "ndots:2"  # `db.shop` is looked for below the org first, `backend.apps.internal` is asked for as it stands
EDNS = "edns0"  # 70 addresses fit a datagram instead of 28: glibc then need not ask again over TCP, which is scarce


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The content of a resolv.conf."""

    nameservers: tuple[IPv4Address, ...]
    search: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def text(self) -> str:
        """As resolv.conf(5) has it."""
        servers = "".join(f"nameserver {each}\n" for each in self.nameservers)
        return f"{servers}search {' '.join(self.search)}\noptions {' '.join(self.options)}\n"


def resolv_conf(app: AppName, *, nameserver: IPv4Address, domain: str) -> ResolvConf:
    """Of an instance of `app`: `db` is the app of its own space, `db.shop` that of another space of its org."""
    return ResolvConf((nameserver,), (f"{app.space}.{app.org}.{domain}", f"{app.org}.{domain}"), (NDOTS, EDNS))
