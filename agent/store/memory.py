"""The store in memory: the fake that tests build on, held to the same contract suite as the real ones."""

from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Network
from types import MappingProxyType

from agent.model.names import AppName
from agent.store import subnets
from agent.store.changes import Changes
from agent.store.store import Listener, StoredPolicy, by_name, no_such_policy
from agent.store.tags import LAST_TAG, TagClaim, claim, in_use, release


class MemoryStore:
    """A Store that is gone with the process. `last_tag` makes exhaustion cheap to reach in tests."""

    def __init__(self, *, last_tag: int = LAST_TAG) -> None:
        self._last_tag = last_tag
        self._changes = Changes()
        self._claims: dict[AppName, TagClaim] = {}
        self._tags: Mapping[AppName, int] = MappingProxyType({})
        self._policies: tuple[StoredPolicy, ...] = ()
        self._subnets: dict[str, IPv4Network] = {}

    @property
    def revision(self) -> int:
        """See Store."""
        return self._changes.revision

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """See Store."""
        return self._changes.subscribe(listener)

    async def tags(self) -> Mapping[AppName, int]:
        """See Store."""
        return self._tags

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        """See Store."""
        if not all(app in self._tags for app in apps):
            self._set_claims(claim(self._claims, apps, now=now, last=self._last_tag))
        return {app: self._tags[app] for app in apps}

    async def release_tags(self, apps: Collection[AppName], *, now: float) -> None:
        """See Store."""
        self._set_claims(release(self._claims, apps, now=now))

    async def refer(self, apps: Collection[AppName]) -> None:
        """See Store. There is no other cell."""

    async def policies(self) -> tuple[StoredPolicy, ...]:
        """See Store."""
        return self._policies

    async def apply_policies(self, policies: Collection[StoredPolicy]) -> None:
        """See Store."""
        self._set_policies(by_name(self._policies) | by_name(policies))

    async def delete_policy(self, name: str) -> None:
        """See Store."""
        held = by_name(self._policies)
        if name not in held:
            raise no_such_policy(name, known=held)
        del held[name]
        self._set_policies(held)

    async def claim_subnet(self, cell: str, *, network: IPv4Network, cell_prefix: int) -> IPv4Network:
        """See Store."""
        held = self._subnets.get(cell)
        if held is None or not subnets.fits(held, network=network, cell_prefix=cell_prefix):
            taken = [subnet for other, subnet in self._subnets.items() if other != cell]
            held = subnets.first_free(taken, network=network, cell_prefix=cell_prefix)
            self._subnets[cell] = held
            self._changes.announce()
        return held

    def _set_claims(self, claims: dict[AppName, TagClaim]) -> None:
        self._claims = claims
        tags = in_use(claims)
        if tags != self._tags:
            self._tags = MappingProxyType(tags)
            self._changes.announce()

    def _set_policies(self, held: dict[str, StoredPolicy]) -> None:
        policies = tuple(sorted(held.values()))
        if policies != self._policies:
            self._policies = policies
            self._changes.announce()
