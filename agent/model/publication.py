"""A port that an attachment publishes on its cell, as it is written: `8080:80`, `192.0.2.7:53:53/udp`, `8000-8010:9000-9010`,
`443:tls`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Final, Self

from agent.errors import Conflict, InvalidInput
from agent.model.app_port import PROTOCOLS, TCP, check_port
from agent.model.outside import NEVER
from dataplane.state import PublishedPort

WRITTEN: Final = re.compile(
    r"(?:(?P<address>[0-9.]+):)?(?P<first>[0-9]{1,9})(?:-(?P<last>[0-9]{1,9}))?"
    r":(?:(?P<tls>tls)|(?P<to>[0-9]{1,9})(?:-(?P<end>[0-9]{1,9}))?)(?:/(?P<protocol>tcp|udp))?"
)
HINT: Final = "write 8080:80, 192.0.2.7:8080:80, 53:53/udp, 8000-8010:9000-9010, or 443:tls for the port that terminates TLS"
ANY: Final = "any"
EVERY: Final = IPv4Address(0)


@dataclass(frozen=True, slots=True, order=True)
class Publication:
    """Ports `first` to `last` of the host, on an `address` of it or on all, lead to the container's, the first one to `to`.

    Without `to` it is the port where its TLS is terminated. Raises InvalidInput for what cannot be.
    """

    first: int
    last: int
    to: int | None
    protocol: str = TCP
    address: IPv4Address | None = None

    def __post_init__(self) -> None:
        for each in (self.first, self.last, *(() if self.to is None else (self.to, self.end))):
            check_port(each)
        if self.protocol not in PROTOCOLS:
            raise InvalidInput(f"'{self.protocol}' is no protocol that a port has", hint="tcp or udp")
        if self.last < self.first:
            raise InvalidInput(f"the range {self.first}-{self.last} is reversed", hint=f"write {self.last}-{self.first}")
        if self.to is None and (self.first, self.protocol) != (self.last, TCP):
            raise InvalidInput(f"'{self}' leads to one port of TCP", hint="publish one port as tls")
        never = next((why for network, why in NEVER.items() if self.address in network), "") if self.address else ""
        if never:
            raise InvalidInput(f"nothing is published on {self.address}: {never}", hint="name an address of this host's links")

    @property
    def end(self) -> int:
        """The last port inside."""
        return (self.to or 0) + self.last - self.first

    @classmethod
    def parse(cls, text: str) -> Self:
        """`[ADDRESS:]PORT[-LAST]:TO[-LAST][/udp]`, or `tls` in place of TO."""
        found = WRITTEN.fullmatch(text)
        if found is None:
            raise InvalidInput(f"'{text}' is not a port to publish", hint=HINT)
        first = int(found["first"])
        made = cls(
            first=first,
            last=int(found["last"] or first),
            to=None if found["tls"] else int(found["to"]),
            protocol=found["protocol"] or TCP,
            address=published_address(found["address"] or ANY),
        )
        if (found["end"] is not None and int(found["end"]) != made.end) or (found["last"] and found["to"] and not found["end"]):
            raise InvalidInput(f"'{text}' has not as many ports inside as outside", hint=f"write {made}")
        return made

    def overlaps(self, other: "Publication") -> bool:
        """Whether one packet could be meant by both."""
        is_near = None in (self.address, other.address) or self.address == other.address
        return is_near and self.protocol == other.protocol and self.first <= other.last and other.first <= self.last

    def inside(self, *, tls_port: int) -> range:
        """The container's ports."""
        return range(tls_port, tls_port + 1) if self.to is None else range(self.to, self.end + 1)

    @property
    def outside(self) -> str:
        """The host's side alone: `192.0.2.7:8000-8010/tcp`."""
        return f"{self._host}/{self.protocol}"

    @property
    def json(self) -> Mapping[str, str | int | float | bool | None]:
        """The fields of a request."""
        inside: dict[str, int | bool] = {"tls": True} if self.to is None else {"to": self.to}
        return {"port": self.first, "last": self.last, "address": str(self.address or ANY), "protocol": self.protocol, **inside}

    @property
    def _host(self) -> str:
        return ("" if self.address is None else f"{self.address}:") + _range(self.first, self.last)

    def __str__(self) -> str:
        """What `parse` takes."""
        to = "tls" if self.to is None else _range(self.to, self.end)
        return f"{self._host}:{to}" + ("" if self.protocol == TCP else f"/{self.protocol}")


def on_host(published: Sequence[Publication], *, tls_port: int) -> tuple[PublishedPort, ...]:
    """The same for the dataplane."""
    return tuple(
        PublishedPort(each.protocol, each.address, each.first, each.last, each.inside(tls_port=tls_port)[0])
        for each in published
    )


def refuse_overlap(published: Sequence[Publication]) -> None:
    """InvalidInput where a port is published twice."""
    for number, each in enumerate(published):
        if any(each.overlaps(other) for other in published[:number]):
            raise InvalidInput(f"port {each.outside} is published twice", hint="each port of the host leads to one port inside")


def refuse_published(wanted: Sequence[Publication], held: Sequence[Publication], *, by: str) -> None:
    """Conflict where a port is another attachment's."""
    for each in wanted:
        taken = next((other for other in held if other.overlaps(each)), None)
        if taken is not None:
            raise Conflict(f"port {taken.outside} of this host is published by '{by}'", hint="publish another one")


def published_address(text: str) -> IPv4Address | None:
    """One of the host's addresses, or `any` (or 0.0.0.0) for all. Raises InvalidInput."""
    if text == ANY:
        return None
    try:
        found = IPv4Address(text)
    except AddressValueError as error:
        raise InvalidInput(f"'{text}' is not an IPv4 address", hint=HINT) from error
    return None if found == EVERY else found


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
