"""Policies and tags, decoded from records and kept as they change: a change among 60,000 costs only what it changes."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from agent.model.names import AppName
from agent.store.etcd import records
from agent.store.etcd.client import Value
from agent.store.etcd.keys import NEEDED, Keys
from agent.store.protocols import StoredPolicy
from agent.store.tags import TagClaim

FEW = 100  # policies: where more have changed, all are sorted anew


class PoliciesAndTags:
    """A malformed record is left out, and named in `malformed` with the reason.

    `valid` are the claims whose number's record names the same app: a claim alone gives no other app's rights.
    `in_use` are those of them that were not given back, and `tag_changes` counts how often they have changed.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.policies: dict[str, StoredPolicy] = {}
        self.claims: dict[AppName, TagClaim] = {}
        self.valid: dict[AppName, TagClaim] = {}
        self.in_use: dict[AppName, int] = {}
        self.tag_changes = 0
        self.numbers: dict[int, str] = {}
        self.needed: dict[str, frozenset[AppName]] = {}
        self.malformed: dict[str, str] = {}
        self._needing: Counter[AppName] = Counter()
        self._claimants: dict[int, set[AppName]] = {}
        self._of_key: dict[str, AppName] = {}
        self._number_of: dict[str, int] = {}
        self._touched: set[str] = set()
        self._names: list[str] = []
        self._listed: list[StoredPolicy] = []
        self._all: tuple[StoredPolicy, ...] = ()
        self._kinds: tuple[tuple[str, Callable[[str, str, Value], None]], ...] = (
            (keys.policies, self._policy),
            (keys.apps, self._claim),
            (keys.numbers, self._number),
            (keys.cells, self._cell),
        )

    def is_needed(self, app: AppName, *, beside: str) -> bool:
        """Whether another cell needs the app than that whose record has the key `beside`."""
        return self._needing[app] > (app in self.needed.get(beside, frozenset()))

    def all_policies(self) -> tuple[StoredPolicy, ...]:
        """By name; the same object as long as nothing changed."""
        if self._touched:
            if len(self._touched) > FEW:
                self._names = sorted(self.policies)
                self._listed = [self.policies[name] for name in self._names]
            else:
                for name in self._touched:
                    self._list(name)
            self._touched.clear()
            listed = tuple(self._listed)
            self._all = self._all if listed == self._all else listed
        return self._all

    def _list(self, name: str) -> None:
        place, now = bisect_left(self._names, name), self.policies.get(name)
        if place < len(self._names) and self._names[place] == name:
            if now is None:
                del self._names[place], self._listed[place]
            else:
                self._listed[place] = now
        elif now is not None:
            self._names.insert(place, name)
            self._listed.insert(place, now)

    def update(self, changed: Iterable[str], values: Mapping[str, Value]) -> bool:
        """Decode what has changed; whether its meaning has changed."""
        meaning_changed = False
        for key in changed:
            before, after = self._meaning(key), values.get(key)
            self._forget(key)
            if after is not None:
                try:
                    self._decode(key, after)
                except ValueError as error:
                    self.malformed[key] = str(error)
            meaning_changed = meaning_changed or self._meaning(key) != before
        return meaning_changed

    def _meaning(self, key: str) -> object:
        held = self._of_key.get(key)
        if held is not None:
            return self.claims.get(held)
        if key in self._number_of:
            return self.numbers[self._number_of[key]]
        return self.malformed.get(key) or self.needed.get(key) or self.policies.get(key.removeprefix(self._keys.policies))

    def _forget(self, key: str) -> None:
        self.malformed.pop(key, None)
        self._needing.subtract(self.needed.pop(key, ()))
        number = self._number_of.pop(key, None)
        if number is not None:
            self.numbers.pop(number, None)
            self._judge_claimants(number)
        name = key.removeprefix(self._keys.policies)
        if self.policies.pop(name, None) is not None:
            self._touched.add(name)
        held = self._of_key.pop(key, None)
        if held is not None:
            self._claimants[self.claims.pop(held).tag].discard(held)
            self._judge(held)

    def _decode(self, key: str, value: Value) -> None:
        for prefix, decode in self._kinds:
            if key.startswith(prefix):
                decode(key, key.removeprefix(prefix), value)
                return

    def _cell(self, key: str, name: str, value: Value) -> None:
        if name.endswith(f"/{NEEDED}"):
            self.needed[key] = records.decode_needed(value)
            self._needing.update(self.needed[key])

    def _policy(self, key: str, name: str, value: Value) -> None:
        if key != self._keys.accepted:
            self.policies[name] = records.decode_policy(name, value)
            self._touched.add(name)

    def _claim(self, key: str, name: str, value: Value) -> None:
        app, claim = AppName.parse(name), records.decode_tag(value)
        self.claims[app] = claim
        self._claimants.setdefault(claim.tag, set()).add(app)
        self._of_key[key] = app
        self._judge(app)

    def _number(self, key: str, name: str, value: Value) -> None:
        number = int(name)
        if self._keys.number(number) != key:
            raise records.MalformedRecord("no number of a tag")
        self.numbers[number] = value.data.decode(errors="replace")
        self._number_of[key] = number
        self._judge_claimants(number)

    def _judge_claimants(self, number: int) -> None:
        for app in self._claimants.get(number, ()):
            self._judge(app)

    def _judge(self, app: AppName) -> None:
        held = self.claims.get(app)
        if held is not None and self.numbers.get(held.tag) == str(app):
            self.valid[app] = held
        else:
            self.valid.pop(app, None)
            held = None
        tag = None if held is None or held.released is not None else held.tag
        if self.in_use.get(app) != tag:
            self.tag_changes += 1
            if tag is None:
                del self.in_use[app]
            else:
                self.in_use[app] = tag
