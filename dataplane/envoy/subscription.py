"""What one Envoy has of one type, as one stream of delta ADS reports it. Pure: requests in, what is due out.

Envoy refuses a push as a whole, though it has taken the good part of it, and names the bad part in prose. So a refused
push is divided in halves and sent again until the guilty resource is alone: the others end up acknowledged, and it ends up
with Envoy's words about it alone, whatever kind of mistake it is. Secrets cannot be separated like that: Envoy acknowledges
a bad one when it is sent a second time. So they go one by one from the start, and are never sent again unchanged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from dataplane.envoy.resource import SECRET, Resource

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
    """One type on one stream. `acknowledged` is what Envoy has, by its own word; `flights` are pushes without an answer yet."""

    one_by_one: bool = False
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, ResourceRefusal] = field(default_factory=dict)
    divided: list[frozenset[str]] = field(default_factory=list)
    flights: dict[str, Versions] = field(default_factory=dict)
    # what was desired when nothing was due; nothing is until Envoy says something or something else is desired
    content_with: Mapping[str, Resource] | None = None
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
        new._settle_wildcard()
        new._check_size()
        return new

    def receive(self, request: DeltaDiscoveryRequest) -> int:
        """A later request: an answer, a change of interest, or both. Returns how many resources it acknowledged."""
        self.content_with = None
        taken = self._answer(request)
        for name in request.resource_names_unsubscribe:
            self._forget(name)
        for name in request.resource_names_subscribe:
            # a new subscription wants it sent, even if it had it before
            self.acknowledged.pop(name, None)
            self.names.add(name)
        self._settle_wildcard()
        self._check_size()
        return taken

    def _settle_wildcard(self) -> None:
        if WILDCARD in self.names:
            self.names.remove(WILDCARD)
            self.wildcard = True

    def _check_size(self) -> None:
        if len(self.names) + len(self.acknowledged) > MOST_NAMES:
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

    def withdraw(self, names: Iterable[str]) -> None:
        """These are not wanted any more. If one comes back, even the same version gets another chance."""
        self.content_with = None
        if self.one_by_one:
            return
        for name in names:
            if name in self.refused:
                self.refused[name] = ResourceRefusal(UNKNOWN, self.refused[name].words)

    def retry(self) -> None:
        """Give what was refused another chance: what stood in its way may be gone."""
        self.withdraw(list(self.refused))

    def may_send(self) -> bool:
        """Whether an answer would be clear about the next push: one at a time of those that carry several resources."""
        return self.one_by_one or not self.flights

    def _flying(self) -> Versions:
        return {name: version for versions in self.flights.values() for name, version in versions.items()}

    def to_put(self, desired: Mapping[str, Resource]) -> Versions:
        """Versions that Envoy lacks and wants, without those in flight and those it has refused."""
        names = desired if self.wildcard else self.names & desired.keys()
        flying = self._flying()
        due: dict[str, str | None] = {}
        for name in names:
            version = desired[name].version
            refusal = self.refused.get(name)
            known = flying[name] if name in flying else self.acknowledged.get(name)
            if known != version and not (refusal and refusal.version == version):
                due[name] = version
        return due

    def to_drop(self, desired: Mapping[str, Resource]) -> Versions:
        """What Envoy has, or may have taken a part of, and should not have.

        Named subscriptions are left alone: Envoy stops asking for a secret by name when it is done with it.
        """
        if not self.wildcard:
            return {}
        flying = self._flying()
        known = self.acknowledged.keys() | self.refused.keys()
        return {
            name: None
            for name in known - desired.keys() - flying.keys()
            if not (name in self.refused and self.refused[name].version is None)
        }

    def portion(self, due: Versions) -> Versions:
        """The part of what is due that goes into the next push: all of it, one, or the next piece of a refused push."""
        if self.one_by_one:
            return dict(sorted(due.items())[:1])
        while self.divided:
            part = {name: due[name] for name in self.divided[0] if name in due}
            if part:
                return part
            self.divided.pop(0)
        return due
