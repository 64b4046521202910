"""Envoy's table as a value: resources by their key, held by type, as streams ask for them.

A table that is made of another one shares with it every type in which nothing has changed, so that whatever follows from a
type is seen by identity to be as it was.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from dataplane.envoy.ads.resource import Resource, ResourceKey

ByName = Mapping[str, Resource]
NOTHING: ByName = {}  # of a type that no resource has; always this object


@dataclass(frozen=True, slots=True, eq=False)
class ResourceTable(Mapping[ResourceKey, Resource]):
    """A mapping like any other, in the order of its keys. `types` is what it holds: type, then name."""

    types: Mapping[str, ByName] = field(default_factory=dict)

    @classmethod
    def of(cls, resources: Mapping[ResourceKey, Resource]) -> "ResourceTable":
        """The table with these."""
        return cls().changed(resources, drop=())

    def __getitem__(self, key: ResourceKey) -> Resource:
        return self.types[key.type_url][key.name]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, ResourceKey) and key.name in self.named(key.type_url)

    def __iter__(self) -> Iterator[ResourceKey]:
        for type_url, named in sorted(self.types.items()):
            yield from (ResourceKey(type_url, name) for name in sorted(named))

    def __len__(self) -> int:
        return sum(map(len, self.types.values()))

    def named(self, type_url: str) -> ByName:
        """All of one type; the same object as long as nothing of that type has changed."""
        return self.types.get(type_url, NOTHING)

    def version(self, key: ResourceKey) -> str | None:
        """Of what is held under `key`, None where nothing is."""
        found = self.named(key.type_url).get(key.name)
        return None if found is None else found.version

    def changed(self, put: Mapping[ResourceKey, Resource], *, drop: Collection[ResourceKey]) -> "ResourceTable":
        """The table with these instead, and without those that are to `drop`; itself where that is what it holds."""
        types = dict[str, dict[str, Resource]]()
        for key in drop:
            if key.name in self.named(key.type_url):
                self._copied(key.type_url, types).pop(key.name, None)
        for key, resource in put.items():
            if self.named(key.type_url).get(key.name) != resource:
                self._copied(key.type_url, types)[key.name] = resource
        return ResourceTable({**self.types, **types}) if types else self

    def _copied(self, type_url: str, types: dict[str, dict[str, Resource]]) -> dict[str, Resource]:
        if type_url not in types:
            types[type_url] = dict(self.named(type_url))
        return types[type_url]
