"""Which flavour of iptables this host's rules are in: detected once at the start, or as the configuration says."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent import log
from agent.config.config import BackendChoice, Config
from agent.model.status import Part
from dataplane.firewall import backends
from dataplane.kernel import Kernel


def chosen_backend(config: Config) -> backends.Backend:
    """Raises HostRefused where it cannot be detected."""
    choice = config.firewall.backend
    return backends.detect() if choice is BackendChoice.AUTO else backends.Backend(choice.value)


async def clear_other_backend(kernel: Kernel, backend: backends.Backend) -> None:
    """Rules of ours that an earlier choice left would go on refusing what is allowed now."""
    gone = await asyncio.wrap_future(kernel.submit(lambda: backends.clear_other(backend)))
    if gone:
        log.get("daemon").info("other_backend_cleared", kept=backend.value, chains=gone)


@dataclass(frozen=True, slots=True)
class FirewallRow:
    """The flavour (nft, legacy), and how many rules of ours it has."""

    backend: str
    rules: int


class FirewallPart(Part):
    """`rules` counts them."""

    def __init__(self, backend: backends.Backend, rules: Callable[[], int]) -> None:
        self._backend = backend
        self._rules = rules

    async def rows(self) -> Mapping[str, object]:
        """`firewall`."""
        return {"firewall": FirewallRow(self._backend.value, self._rules())}
