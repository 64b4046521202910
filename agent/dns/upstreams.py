"""The name servers of the outside: with `dns.upstreams: auto` the host's, followed when its resolv.conf changes.

dnsmasq reads a file of ours, which has those that it may ask: not one inside the overlay, where its question would go to a
container, and not the resolver itself. While containers may not leave the overlay, what asks for the names of policies reads it
instead.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from agent import log
from agent.complaint import Complaints
from agent.config.config import Config, Verdict
from agent.errors import HostRefused
from agent.model.status import Part, Problem
from dataplane.dns.command import Upstream
from host import durable
from host.errors import refused_as

EVERY: Final = 1.0  # seconds between looks at the host's file
LARGEST: Final = 1 << 16  # bytes of it that are read


@dataclass(frozen=True, slots=True)
class Choice:
    """Which name servers are asked, in their order, and which are not, with the reason."""

    asked: tuple[Upstream, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def content(self) -> bytes:
        """As dnsmasq reads it."""
        return "".join(f"server={each}\n" for each in self.asked).encode()


def chosen(found: tuple[Upstream, ...], *, overlay: IPv4Network, resolver: IPv4Address) -> Choice:
    """Those of `found` that can be asked. Pure."""
    why = {each: _obstacle(each.address, overlay, resolver) for each in found}
    asked = tuple(each for each, obstacle in why.items() if not obstacle)
    return Choice(asked, tuple(f"{each.address} {obstacle}" for each, obstacle in why.items() if obstacle))


def _obstacle(address: IPv4Address | IPv6Address, overlay: IPv4Network, resolver: IPv4Address) -> str:
    if isinstance(address, IPv4Address) and address in overlay:
        return f"is inside the overlay {overlay}"
    return "is the resolver itself" if address == resolver else ""


def name_servers(resolv_conf: str) -> tuple[Upstream, ...]:
    """Those that a resolv.conf names. Pure."""
    return tuple(dict.fromkeys(_name_servers(resolv_conf)))


def _name_servers(text: str) -> Iterator[Upstream]:
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                yield Upstream(ip_address(words[1].partition("%")[0]))
            except ValueError:
                continue


def configured(config: Config) -> tuple[Upstream, ...]:
    """Those that agent.yaml names, or the host's: none where there is no such file, which comes with a network."""
    if config.dns.upstreams is not None:
        return config.dns.upstreams
    try:
        with config.paths.host_resolv_conf.open("rb") as file:
            return name_servers(file.read(LARGEST).decode(errors="replace"))
    except OSError:
        return ()


class Upstreams(Part):
    """One per agent. `reread` has dnsmasq read the file."""

    def __init__(self, config: Config, *, reread: Callable[[], None]) -> None:
        self._config = config
        self._reread = reread
        self._choice = Choice()
        self._log = log.get("dns")
        self._failure = Complaints(self._log, failed="upstreams_not_written", recovered="upstreams_written")
        self.look()

    @property
    def choice(self) -> Choice:
        """The present one."""
        return self._choice

    def problems(self) -> tuple[Problem, ...]:
        """That the file could not be written."""
        return tuple(Problem("dns", each.what, each.hint) for each in self._failure.standing.values())

    def take(self, config: Config) -> None:
        """From now on go by this one."""
        self._config = config
        self.look()

    async def run(self) -> None:
        """Follow the host's file for ever. Ends only by cancellation."""
        while True:
            await asyncio.sleep(EVERY)
            self.look()

    def look(self) -> None:
        """Once."""
        dns, overlay = self._config.dns, self._config.overlay.network
        choice = chosen(configured(self._config), overlay=overlay, resolver=dns.address)
        if choice.left_out != self._choice.left_out:
            self._log.warning("name_servers_left_out", which=choice.left_out)
        self._choice = choice
        try:
            self._write(choice.content)
            self._failure.over()
        except HostRefused as error:
            self._failure.about(error)

    def _write(self, content: bytes) -> None:
        path = self._config.paths.upstreams
        is_read_by_dnsmasq = self._config.egress.default is Verdict.ALLOW
        if is_read_by_dnsmasq and self._config.dns.upstreams is not None:
            return
        with refused_as(f"cannot write {path}", hint="see `df` and `ls -la`"):
            if path.exists() and path.read_bytes() == content:
                return
            durable.make_folder(path.parent, mode=0o755)
            durable.replace(durable.Write(path, content, durable.PUBLIC))
        if is_read_by_dnsmasq:
            self._reread()
