"""Which cell has which part of the overlay, decoded from the claims and kept as they change.

Every cell may write claims, since a new one must be able to get its part. So claims are compared with each other: of two that
overlap the older one holds.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network

from agent.model.cell import CellRecord
from agent.store.etcd import records
from agent.store.etcd.client import Value
from agent.store.etcd.keys import Keys
from agent.store.subnets import SubnetClaim

Place = tuple[int, int]  # first address, prefix length


class SubnetClaims:
    """`claims` holds all that can be decoded; `malformed` is key -> why, of the others."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._of_key: dict[str, IPv4Network] = {}
        self._revisions: dict[IPv4Network, int] = {}
        self._at: dict[Place, IPv4Network] = {}
        self._inside: dict[Place, set[IPv4Network]] = {}
        self.claims: dict[IPv4Network, SubnetClaim] = {}
        self.malformed: dict[str, str] = {}

    def update(self, key: str, value: Value | None) -> set[IPv4Network]:
        """Decode one claim's record; the subnets whose cells are to be judged anew."""
        touched = set[IPv4Network]()
        self.malformed.pop(key, None)
        before = self._of_key.pop(key, None)
        if before is not None:
            self._remove(before)
            touched |= {before, *self._overlapping(before)}
        if value is not None:
            try:
                subnet, claim = records.decode_subnet(key.removeprefix(self._keys.subnets), value)
            except ValueError as error:
                self.malformed[key] = str(error)
            else:
                self._of_key[key] = subnet
                self._add(subnet, claim, value.revision)
                touched |= {subnet, *self._overlapping(subnet)}
        return touched

    def why_not(self, record: CellRecord) -> str | None:
        """Why a cell's record of its part of the overlay does not hold, None if it does."""
        claim = self.claims.get(record.subnet)
        if claim is None or (claim.cell, claim.name) != (record.id, record.name):
            holder = "no cell" if claim is None else f"cell {claim.name or claim.cell[:12]}"
            return f"its subnet {record.subnet} is claimed by {holder}, not by it"
        if claim.released is not None:
            return f"its subnet {record.subnet} was given back"
        mine = self._revisions[record.subnet]
        held = (each for each in self._overlapping(record.subnet) if self.claims[each].released is None)
        older = min((each for each in held if self._revisions[each] < mine), key=self._age, default=None)
        if older is None:
            return None
        return f"its subnet {record.subnet} overlaps {older}, which cell {self.claims[older].name} claimed before"

    def _age(self, subnet: IPv4Network) -> tuple[int, IPv4Network]:
        return self._revisions[subnet], subnet

    def _add(self, subnet: IPv4Network, claim: SubnetClaim, revision: int) -> None:
        self.claims[subnet] = claim
        self._revisions[subnet] = revision
        self._at[_place(subnet)] = subnet
        for place in _around(subnet):
            self._inside.setdefault(place, set()).add(subnet)

    def _remove(self, subnet: IPv4Network) -> None:
        del self.claims[subnet], self._revisions[subnet], self._at[_place(subnet)]
        for place in _around(subnet):
            inside = self._inside[place]
            inside.discard(subnet)
            if not inside:
                del self._inside[place]

    def _overlapping(self, subnet: IPv4Network) -> Iterator[IPv4Network]:
        """Claimed ones that contain it, or are in it. Networks cannot overlap otherwise."""
        yield from self._inside.get(_place(subnet), ())
        yield from (self._at[place] for place in _around(subnet) if place in self._at)


def _place(subnet: IPv4Network) -> Place:
    return int(subnet.network_address), subnet.prefixlen


def _around(subnet: IPv4Network) -> Iterator[Place]:
    """All larger networks that contain it."""
    base = int(subnet.network_address)
    for length in range(subnet.prefixlen):
        yield (base >> (32 - length)) << (32 - length), length
