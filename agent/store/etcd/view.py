"""What the records of policies and tags mean, kept as they change: a change among 60,000 costs what it changes."""

from collections.abc import Callable, Iterable, Mapping

from agent.model.names import AppName
from agent.store.etcd import keys as records
from agent.store.etcd.client import Value
from agent.store.etcd.keys import NEEDED, Keys
from agent.store.store import StoredPolicy
from agent.store.tags import TagClaim


class View:
    """The decoded copy. A record that makes no sense is left out, and named in `malformed` with the reason."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.policies: dict[str, StoredPolicy] = {}
        self.claims: dict[AppName, TagClaim] = {}
        self.numbers: dict[int, str] = {}
        self.needed: dict[str, frozenset[AppName]] = {}
        self.malformed: dict[str, str] = {}
        self._of_key: dict[str, AppName] = {}
        self._number_of: dict[str, int] = {}

    def valid_claims(self) -> dict[AppName, TagClaim]:
        """Those that hold their number's record too: whoever writes a claim alone gets no other app's rights by it."""
        return {app: held for app, held in self.claims.items() if self.numbers.get(held.tag) == str(app)}

    def update(self, changed: Iterable[str], values: Mapping[str, Value]) -> bool:
        """Decode what has changed; whether it means anything else than before."""
        news = False
        for key in changed:
            before, after = self._meaning(key), values.get(key)
            self._forget(key)
            if after is not None:
                try:
                    self._decode(key, after)
                except ValueError as error:
                    self.malformed[key] = str(error)
            news = news or self._meaning(key) != before
        return news

    def _meaning(self, key: str) -> object:
        held = self._of_key.get(key)
        if held is not None:
            return self.claims.get(held)
        if key in self._number_of:
            return self.numbers[self._number_of[key]]
        return self.malformed.get(key) or self.needed.get(key) or self.policies.get(key.removeprefix(self._keys.policies))

    def _forget(self, key: str) -> None:
        self.malformed.pop(key, None)
        self.needed.pop(key, None)
        number = self._number_of.pop(key, None)
        if number is not None:
            self.numbers.pop(number, None)
        self.policies.pop(key.removeprefix(self._keys.policies), None)
        held = self._of_key.pop(key, None)
        if held is not None:
            self.claims.pop(held, None)

    def _decode(self, key: str, value: Value) -> None:
        for prefix, decode in self._kinds().items():
            if key.startswith(prefix):
                decode(key, key.removeprefix(prefix), value)

    def _kinds(self) -> dict[str, Callable[[str, str, Value], None]]:
        keys = self._keys
        return {
            keys.policies: self._policy,
            keys.apps: self._claim,
            keys.numbers: self._number,
            keys.cells: self._cell,
        }

    def _cell(self, key: str, name: str, value: Value) -> None:
        if name.endswith(f"/{NEEDED}"):
            self.needed[key] = records.needed(value)

    def _policy(self, key: str, name: str, value: Value) -> None:
        if key != self._keys.accepted:
            self.policies[name] = records.policy(name, value)

    def _claim(self, key: str, name: str, value: Value) -> None:
        app = AppName.parse(name)
        self.claims[app] = records.claim(value)
        self._of_key[key] = app

    def _number(self, key: str, name: str, value: Value) -> None:
        number = int(name)
        if self._keys.number(number) != key:
            raise records.Malformed("no number of a tag")
        self.numbers[number] = value.data.decode(errors="replace")
        self._number_of[key] = number
