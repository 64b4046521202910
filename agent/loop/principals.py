"""What stands in a certificate for a tag and for a group: who Envoy lets in is named by SPIFFE ids, never by numbers. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from agent.model.names import AppName
from agent.model.policy import Pattern
from ca.names import spiffe_id, spiffe_prefix


class Principals(Mapping[int, str]):
    """Tag -> SPIFFE id, of all apps that have a tag; an id is put together only when it is asked for."""

    def __init__(self, tags: Mapping[AppName, int], *, trust_domain: str) -> None:
        self.tags = tags
        self._trust_domain = trust_domain
        self._apps = {tag: app for app, tag in tags.items()}

    def __getitem__(self, tag: int) -> str:
        app = self._apps[tag]
        return spiffe_id(self._trust_domain, org=app.org, space=app.space, app=app.app)

    def __iter__(self) -> Iterator[int]:
        return iter(self._apps)

    def __len__(self) -> int:
        return len(self._apps)


def group_principals(groups: Iterable[str], *, trust_domain: str) -> dict[str, str]:
    """Group (`acme/shop/*`) -> what the SPIFFE ids of its apps, and of no other app, begin with."""
    patterns = {name: Pattern.parse(name) for name in groups}
    return {name: spiffe_prefix(trust_domain, org=each.org, space=each.space) for name, each in patterns.items()}
