"""Where a sweep looks for flows that nothing permits any longer: everywhere after a doubt, else where a right was lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, TypeAlias

Addresses: TypeAlias = "frozenset[IPv4Address] | None"
"""None means everywhere."""
NO_PLACE: Final[frozenset[IPv4Address]] = frozenset()


@dataclass(frozen=True, slots=True)
class Places:
    """Falsy where there is nowhere to look.

    `addresses`: flows that one of these answers, or, where one has no workload (any more), those from it too. `leaving`: those
    that one of these has begun, which may reach less outside than before. `departed` are containers of other cells that are
    not what they were, with the tags that their addresses have now, or 0: flows that came from another tag are forbidden, and
    looked for in any case.
    """

    addresses: Addresses = NO_PLACE
    leaving: frozenset[IPv4Address] = NO_PLACE
    departed: Mapping[IPv4Address, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.addresses is None or bool(self.addresses or self.leaving or self.departed)

    def __or__(self, other: "Places") -> "Places":
        """Both; of an address that has departed twice the later tag counts."""
        everywhere = self.addresses is None or other.addresses is None
        return Places(
            None if everywhere else (self.addresses or NO_PLACE) | (other.addresses or NO_PLACE),
            self.leaving | other.leaving,
            {**self.departed, **other.departed},
        )


NOWHERE: Final = Places()
EVERYWHERE: Final = Places(None)
