"""As what policies may mean the far end of a flow: an address outside stands for itself, and for the names that led to it.

Names are as containers have asked for them: below `*.example.org` there may be some that no policy could name by themselves.
"""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from agent.model.outside import HostPattern
from agent.policy.parties import Party

MOST: Final = 16  # names of one address that are asked about
NamesOf: TypeAlias = Callable[[IPv4Address], tuple[str, ...]]
"""Those that an address stands for."""


def meanings(end: Party, names_of: NamesOf) -> tuple[Party, ...]:
    """Itself first."""
    return (end, *map(HostPattern, names_of(end)[:MOST])) if isinstance(end, IPv4Address) else (end,)
