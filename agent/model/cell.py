"""A cell as the others know it, and what runs there: the records through which cells find each other."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from agent.config.config import Mtls
from agent.model.app_port import AppPort
from agent.model.names import AppName


@dataclass(frozen=True, slots=True, order=True)
class RootsInUse:
    """A cell's word on its roots, by fingerprint and sorted: `trusts` are those that everything there trusts, what it presents
    leads to those of `signs_with` (two while that changes). Empty: it does not say.
    """

    trusts: tuple[str, ...] = ()
    signs_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class CellRecord:
    """How a cell describes itself. It stays until `cell remove`: peers' routes to a cell that is down must not come and go.

    `id` is the machine's lasting one, by which two machines of one name are told apart; `subnet` its part of the overlay,
    `underlay` the address of its tunnel's end, `version` the agent's. `mtls` is how its containers take TCP by now, whatever
    its configuration asks for. `drained`: all that runs there is on its way out, and nothing is attached.
    """

    name: str
    id: str
    subnet: IPv4Network
    underlay: IPv4Address
    version: str
    mtls: Mtls = Mtls.NONE
    roots: RootsInUse = RootsInUse()
    drained: bool = False

    @property
    def takes_tunnels(self) -> bool:
        """Whether its containers take TCP in tunnels of mutual TLS."""
        return self.mtls is not Mtls.NONE


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A cell, and since when its agent has been alive without a break (seconds since 1970), None while it is not."""

    record: CellRecord
    alive_since: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An instance of an app as other cells see it, by its attachment's name there. Gone when its cell is not alive.

    `routes` are those that it asked for at attach (routes_of says which hold). `ready`: names lead to it.
    """

    cell: str
    name: str
    app: AppName
    instance: int
    address: IPv4Address
    ports: tuple[AppPort, ...] = ()
    routes: tuple[str, ...] = ()
    ready: bool = True
