"""The records of one kind of claim, as they change: of which name each is, whether it makes sense, and whether it counts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic

from agent.store.etcd.client import Value
from agent.store.etcd.names.claim_quotas import ClaimQuotas
from agent.store.etcd.names.first_claims import FirstClaims
from agent.store.etcd.names.records import Claim, Owner
from agent.store.etcd.write_rates import WriteRates


@dataclass(frozen=True, slots=True)
class ClaimFormat(Generic[Owner]):
    """How the keys of these records begin, what the rest of a key is to a name and the other way round, and how names (`check`,
    which raises ValueError), owners and records are read."""

    prefix: str
    name: Callable[[str], str]
    rest: Callable[[str], str]
    check: Callable[[str], None]
    owner: Callable[[str], Owner]
    decode: Callable[[Value], Claim[Owner]]

    def key(self, name: str) -> str:
        """That of a name's claim."""
        return self.prefix + self.rest(name)


class ClaimRecords(Generic[Owner]):
    """`malformed` is key -> why, of those that make no sense. Those that count are given to `claims`, which judges them."""

    def __init__(
        self, claim_format: ClaimFormat[Owner], claims: FirstClaims[Owner], *, quotas: ClaimQuotas, rates: WriteRates
    ) -> None:
        self.format: ClaimFormat[Owner] = claim_format
        self.claims: FirstClaims[Owner] = claims
        self._quotas = quotas
        self._rates = rates
        self.malformed: dict[str, str] = {}

    def read(self, key: str, value: Value | None, *, counts: bool = True) -> str | None:
        """Take what one record says now, which `counts` as a change of it. The name that is to be judged anew."""
        self.malformed.pop(key, None)
        name, claim = self.format.name(key.removeprefix(self.format.prefix)), None
        if self.format.key(name) != key:
            if value is not None:
                self.malformed[key] = "it is no name's key"
            return None
        before = self.claims.records.pop(name, None)
        if value is not None:
            try:
                self.format.check(name)
                claim = self.format.decode(value)
            except ValueError as error:
                self.malformed[key] = str(error)
        writer = claim or before
        if writer is not None and counts:
            self._rates.count(writer.cell)
        if claim is None:
            self._quotas.remove(key)
        elif self._quotas.admit(key, claim.cell):
            self.claims.records[name] = claim
        return name

    def remember(self, owners: Mapping[str, str]) -> list[str]:
        """Owners by keys, that this cell has seen before: those of these records. The names that are to be judged anew."""
        found = {self.format.name(key.removeprefix(self.format.prefix)): owner for key, owner in self._mine(owners)}
        for name, owner in found.items():
            self.claims.set_holder(name, self.format.owner(owner))
        return list(found)

    def _mine(self, owners: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        return ((key, owner) for key, owner in owners.items() if key.startswith(self.format.prefix))

    def left_out(self) -> dict[str, str]:
        """Key -> why, of claims to names that are another's."""
        return {self.format.key(name): why for name, why in self.claims.left_out.items()}

    def disputed(self) -> dict[str, str]:
        """Owners by key, that the records do not give away."""
        return {self.format.key(name): str(owner) for name, owner in self.claims.disputed().items()}
