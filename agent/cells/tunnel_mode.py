"""What this cell does with TCP between containers: `tls.mtls` of its configuration, as the dataplane needs it."""

from typing import Final

from agent.config.config import Mtls
from dataplane.state import MutualTls

MODES: Final = {
    Mtls.NONE: MutualTls(),
    Mtls.ACCEPT: MutualTls(served=True, redirected=True),
    Mtls.STRICT: MutualTls(served=True, redirected=True, plain=False),
}


class TunnelMode:
    """One per agent."""

    def __init__(self, mtls: Mtls) -> None:
        self._mtls = mtls

    def mutual_tls(self) -> MutualTls:
        """As of now; a value."""
        return MODES[self._mtls]
