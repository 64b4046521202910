"""How far this cell has come on its way to mutual TLS, or back, so that no call is refused on the way.

The mode is read at the agent's start, where containers run and Envoy has calls: what has to come one after the other goes on
from what the database says of the agent before. On the way to a mode with tunnels all containers get their listeners first;
then their calls enter tunnels, and other cells hear that this one takes some. On the way back other cells hear first that it
takes none; its listeners stay until nothing uses them. Only `strict` refuses plain TCP, and does so from the start: what comes
too early then is refused, and never plain.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import Enum
from ipaddress import IPv4Network

from agent import log
from agent.complaint import Complaints
from agent.config.config import Mtls
from agent.errors import HostRefused
from agent.store.ledger import Ledger
from dataplane.state import MutualTls


class Stage(Enum):
    """No tunnels; Envoy serves their ends, and no more; containers here use them, and other cells know that they take some."""

    NONE = "none"
    SERVED = "served"
    IN_FORCE = "in force"


STAGES = {each.value: each for each in Stage}


class TunnelMode:
    """One per agent. `without_tunnels` are the parts of the overlay of cells that take none, by their own word.

    A disk that takes nothing keeps no cell from going on: `keep` is called again and again.
    """

    def __init__(self, mode: Mtls, ledger: Ledger, *, without_tunnels: Callable[[], AbstractSet[IPv4Network]]) -> None:
        self.mode = mode
        self._ledger = ledger
        self._without_tunnels = without_tunnels
        self._kept = ledger.tunnel_stage() or Stage.NONE.value
        self._complaints = Complaints(log.get("mutual_tls"), failed="stage_not_kept")
        self.stage = first_stage(mode, last=STAGES.get(self._kept, Stage.SERVED), has_containers=bool(ledger.all()))
        self.keep()

    @property
    def announced(self) -> Mtls:
        """What other cells are to know: only a cell whose containers all have their listeners takes tunnels."""
        return self.mode if self.stage is Stage.IN_FORCE else Mtls.NONE

    @property
    def serves(self) -> bool:
        """Whether Envoy serves the ends of tunnels in each container."""
        return self.mode is not Mtls.NONE or self.stage is not Stage.NONE

    @property
    def is_arriving(self) -> bool:
        """Whether it is on its way to its mode."""
        return self.stage is Stage.SERVED and self.mode is not Mtls.NONE

    @property
    def is_leaving(self) -> bool:
        """Whether it is on its way back."""
        return self.stage is Stage.SERVED and self.mode is Mtls.NONE

    def mutual_tls(self) -> MutualTls:
        """As of now, for the host. Nothing that other cells say of themselves makes a strict one send in plain."""
        if self.mode is Mtls.STRICT:
            return MutualTls(served=True, redirected=True, plain=False)
        if self.stage is Stage.IN_FORCE:
            return MutualTls(served=True, redirected=True, exempt=frozenset(self._without_tunnels()))
        return MutualTls(served=self.serves)

    def arrive(self) -> None:
        """All listeners are there."""
        self._enter(Stage.IN_FORCE)

    def leave(self) -> None:
        """Nothing uses the listeners any more."""
        self._enter(Stage.NONE)

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self.keep()

    def keep(self) -> None:
        """Write down what the next agent goes on from, where it is not written yet."""
        if self.stage.value == self._kept:
            return
        try:
            self._ledger.set_tunnel_stage(self.stage.value)
        except HostRefused as error:
            self._complaints.about(error)
        else:
            self._complaints.over()
            self._kept = self.stage.value


def first_stage(mode: Mtls, *, last: Stage, has_containers: bool) -> Stage:
    """Where an agent begins, by what the one before it has reached. Without containers there is nothing to wait for."""
    if not has_containers:
        return Stage.NONE if mode is Mtls.NONE else Stage.IN_FORCE
    if mode is Mtls.NONE:
        return Stage.NONE if last is Stage.NONE else Stage.SERVED
    return Stage.IN_FORCE if last is Stage.IN_FORCE else Stage.SERVED
