"""What one Envoy has of one type, as one stream of delta ADS reports it. Pure: requests in, what is due out.

Envoy refuses a push as a whole, though it has taken the good part of it, and names the bad part in prose. So a refused
push is divided in halves and sent again until the guilty resource is alone: the others end up acknowledged, and it ends up
with Envoy's words about it alone, whatever kind of mistake it is. Secrets cannot be separated like that: Envoy acknowledges
a bad one when it is sent a second time. So they go one by one from the start, and are never sent again unchanged.

Only those names are looked at of which something may be due: what has changed in the table, and what Envoy has said something
about. With hundreds of containers a look at all names at each of Envoy's answers would take longer than the attach.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from dataplane.envoy.ads.resource import SECRET
from dataplane.envoy.ads.table import NOTHING, ByName

WILDCARD = "*"
# In place of a version: Envoy may have the resource, and no content has this hash.
UNKNOWN = ""
# Far above any cell's number of workloads: what a peer that lies may make us remember.
MOST_NAMES = 65_536


@dataclass(frozen=True, slots=True)
class ResourceRefusal:
    """Envoy's words about one version of a resource; the version is None if it refused to remove it."""

    version: str | None
    words: str


# What a push holds: a version to put, or None to remove.
Versions = Mapping[str, str | None]


@dataclass(slots=True)
class Subscription:
    """One type on one stream. `acknowledged` is what Envoy has, by its own word; `flights` are pushes without an answer yet.

    `unsure` are names of which something may be due: nothing is of all others that are in `desired` or were before.
    """

    one_by_one: bool = False
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, ResourceRefusal] = field(default_factory=dict)
    divided: list[frozenset[str]] = field(default_factory=list)
    flights: dict[str, Versions] = field(default_factory=dict)
    desired: ByName = field(default_factory=lambda: NOTHING)
    unsure: set[str] = field(default_factory=set)
    # A wildcard subscriber waits for a first answer, even an empty one; one that has resources waits for nothing.
    answered: bool = False

    @classmethod
    def opened_by(cls, request: DeltaDiscoveryRequest) -> "Subscription":
        """The first request of a type on a stream. One that names nothing means everything."""
        new = cls(
            one_by_one=request.type_url == SECRET,
            wildcard=not request.resource_names_subscribe,
            answered=bool(request.initial_resource_versions),
        )
        new.acknowledged.update(request.initial_resource_versions)
        new.names.update(request.resource_names_subscribe)
        new.unsure.update(new.acknowledged)
        new._settle_wildcard()
        new._check_size()
        return new

    def receive(self, request: DeltaDiscoveryRequest) -> int:
        """A later request: an answer, a change of interest, or both. Returns how many resources it acknowledged."""
        taken = self._answer(request)
        for name in request.resource_names_unsubscribe:
            self._forget(name)
        for name in request.resource_names_subscribe:
            # a new subscription wants it sent, even if it had it before
            self.acknowledged.pop(name, None)
            self.names.add(name)
            self.unsure.add(name)
        self._settle_wildcard()
        self._check_size()
        return taken

    def _settle_wildcard(self) -> None:
        if WILDCARD in self.names:
            self.names.remove(WILDCARD)
            self.wildcard = True
            self.unsure.update(self.desired, self.acknowledged, self.refused)

    def _check_size(self) -> None:
        if len(self.names) + len(self.acknowledged) + len(self.unsure) > MOST_NAMES:
            raise ValueError(f"more than {MOST_NAMES} resource names")

    def _forget(self, name: str) -> None:
        if name == WILDCARD:
            self.wildcard = False
        self.names.discard(name)
        if not self.wildcard:
            self.acknowledged.pop(name, None)
            self.refused.pop(name, None)

    def _answer(self, request: DeltaDiscoveryRequest) -> int:
        versions = self.flights.pop(request.response_nonce, None)
        if versions is None:
            return 0
        self.unsure.update(versions)
        if request.HasField("error_detail"):
            self._divide(versions, request.error_detail.message)
            return 0
        for name, version in versions.items():
            self.refused.pop(name, None)
            if version is None:
                self.acknowledged.pop(name, None)
            else:
                self.acknowledged[name] = version
        return len(versions)

    def _divide(self, versions: Versions, words: str) -> None:
        names = sorted(versions)
        # it may have taken any part of the push: whatever is wanted next must be sent, and removed if it is not
        self.acknowledged.update(dict.fromkeys(names, UNKNOWN))
        if len(names) == 1:
            self.refused[names[0]] = ResourceRefusal(versions[names[0]], words)
        elif names:
            middle = len(names) // 2
            self.divided[:0] = [frozenset(names[:middle]), frozenset(names[middle:])]

    def withdraw(self, names: Set[str]) -> None:
        """These are not wanted any more. If one comes back, even the same version gets another chance."""
        if self.one_by_one:
            return
        for name in self.refused.keys() & names:
            self.refused[name] = ResourceRefusal(UNKNOWN, self.refused[name].words)
            self.unsure.add(name)

    def retry(self) -> None:
        """Give what was refused another chance: what stood in its way may be gone."""
        self.withdraw(frozenset(self.refused))

    def sent(self, due: Versions, *, nonce: str) -> None:
        """A push is on its way."""
        self.flights[nonce] = due
        self.answered = True

    def may_send(self) -> bool:
        """Whether an answer would be clear about the next push: one at a time of those that carry several resources."""
        return self.one_by_one or not self.flights

    def _flying(self) -> Versions:
        return {name: version for versions in self.flights.values() for name, version in versions.items()}

    def to_put(self, desired: ByName) -> Versions:
        """Versions that Envoy lacks and wants, without those in flight and those it has refused."""
        self._follow(desired)
        flying = self._flying() if self.unsure else {}
        due: dict[str, str | None] = {}
        for name in self.unsure:
            if name not in desired or not (self.wildcard or name in self.names):
                continue
            version = desired[name].version
            refusal = self.refused.get(name)
            known = flying[name] if name in flying else self.acknowledged.get(name)
            if known != version and not (refusal and refusal.version == version):
                due[name] = version
        self.unsure = {name for name in self.unsure if name in due or (self.wildcard and name not in desired)}
        return due

    def to_drop(self, desired: ByName) -> Versions:
        """What Envoy has, or may have taken a part of, and should not have.

        Named subscriptions are left alone: Envoy stops asking for a secret by name when it is done with it.
        """
        self._follow(desired)
        flying = self._flying() if self.unsure else {}
        due: dict[str, str | None] = {}
        for name in self.unsure:
            if not self.wildcard or name in desired or name in flying:
                continue
            if name in self.refused:
                if self.refused[name].version is not None:
                    due[name] = None
            elif name in self.acknowledged:
                due[name] = None
        self.unsure = {name for name in self.unsure if name in due or name in desired}
        return due

    def _follow(self, desired: ByName) -> None:
        before, self.desired = self.desired, desired
        if desired is not before:
            self.unsure.update(name for name, each in desired.items() if before.get(name) is not each)
            self.unsure.update(before.keys() - desired.keys())

    def portion(self, due: Versions) -> Versions:
        """The part of what is due that goes into the next push: all of it, one, or the next piece of a refused push."""
        if self.one_by_one:
            return {name: due[name] for name in (min(due),)} if due else {}
        while self.divided:
            part = {name: due[name] for name in self.divided[0] if name in due}
            if part:
                return part
            self.divided.pop(0)
        return due
