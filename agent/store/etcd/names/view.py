"""Routes, and names that two apps could have, decoded from records and judged as they change: work for one record per change.

Whose a name is decide RouteClaims and FirstClaims. A record that makes no sense is left out, and named in `malformed` with the
reason; a claim to a name that is another's is in `left_out`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from agent.model.attachment import check_route
from agent.model.names import AppName, Space
from agent.model.routes import RouteDomains, Routes
from agent.store import routes as rule
from agent.store.etcd.client import Value
from agent.store.etcd.keys import Keys, backwards, forwards
from agent.store.etcd.names import records as name_records
from agent.store.etcd.names.claim_quotas import ClaimQuotas
from agent.store.etcd.names.claim_records import ClaimFormat, ClaimRecords
from agent.store.etcd.names.first_claims import FirstClaims
from agent.store.etcd.names.holders import Holders
from agent.store.etcd.names.route_claims import RouteClaims
from agent.store.etcd.records import MalformedRecord
from agent.store.etcd.write_rates import FEW, WINDOW, WriteRates

NOTHING: Mapping[str, str] = MappingProxyType({})


class RoutesAndNames:
    """`routes` and `names` are the same objects as long as nothing changed. Where they are known, `domains` are those of all
    routes. `now`: seconds of a clock that is not set."""

    def __init__(
        self,
        keys: Keys,
        *,
        holders: Holders,
        domains: RouteDomains | None = None,
        now: Callable[[], float] = time.monotonic,
        quotas: ClaimQuotas | None = None,
    ) -> None:
        self._keys = keys
        self._holders = holders
        self._domains = domains
        self._quotas = quotas or ClaimQuotas()
        self._rates = WriteRates(now)
        self._operators: dict[str, Value] = {}  # by key, as they were read
        self._malformed: dict[str, str] = {}
        self._has_begun = False
        self._is_flooded = False
        self._disputed: tuple[object, object, Mapping[str, str]] = (None, None, NOTHING)
        self.route_claims = RouteClaims(lives=holders.have_route, now=now)
        self.name_claims = FirstClaims[AppName](lives=lambda _, app: holders.run(app), now=now)
        routes = ClaimFormat(keys.claimed_routes, forwards, backwards, self.check, Space.parse, name_records.decode_route_claim)
        names = ClaimFormat(keys.claimed_names, str, str, check_route, AppName.parse, name_records.decode_name_claim)
        self._claimed_routes = ClaimRecords(routes, self.route_claims, quotas=self._quotas, rates=self._rates)
        self._claimed_names = ClaimRecords(names, self.name_claims, quotas=self._quotas, rates=self._rates)
        self.routes = Routes()
        self.names: Mapping[str, AppName] = MappingProxyType({})

    def check(self, host: str) -> None:
        """Raises InvalidInput for a name that can be no route."""
        rule.check(host)
        if self._domains is not None:
            self._domains.require(host)

    @property
    def malformed(self) -> dict[str, str]:
        """Key -> why."""
        return self._malformed | self._claimed_routes.malformed | self._claimed_names.malformed

    @property
    def left_out(self) -> dict[str, str]:
        """Key -> why."""
        return self._claimed_routes.left_out() | self._claimed_names.left_out()

    def floods(self) -> Iterator[str]:
        """In words, which cells claim or write too much."""
        for cell, counts, more in self._quotas.excess():
            yield f"cell {cell} has claimed {counts + more} names, as the claims say: {more} of them are left out"
        for cell, changes in self._rates.floods(self._quotas.count):
            yield f"cell {cell} floods etcd: {changes} changes of claims in its name in {WINDOW:g} seconds"

    def may_wait(self, key: str) -> bool:
        """Whether a change of the record may wait for others: any cell may write it without end, and does it.

        Claims are written faster then than all cells together need to, as they attach containers.
        """
        return self._keys.is_of_a_cell(key) or (self._is_flooded and key.startswith(self._keys.claims))

    def takes_more_of(self, cell: str) -> bool:
        """Whether one more claim of the cell would count."""
        return not self._quotas.is_full(cell)

    def disputed(self) -> Mapping[str, str]:
        """Owners, by the keys of their claims, that the records do not give away. The same object while nothing changed."""
        routes, names = self.route_claims.disputed(), self.name_claims.disputed()
        if self._disputed[0] is not routes or self._disputed[1] is not names:
            found = self._claimed_routes.disputed() | self._claimed_names.disputed()
            self._disputed = (routes, names, MappingProxyType(found))
        return self._disputed[2]

    def update(self, changed: Iterable[str], values: Mapping[str, Value], *, first: Mapping[str, str] = NOTHING) -> bool:
        """Decode what has changed, then judge the names that it concerns; whether anything is other than before.

        `first` are the owners of names, by the keys of their claims, that this cell has seen before `values`.
        """
        hosts, names, claims = set[str](), set[str](), list[str]()
        for key in changed:
            if key.startswith(self._keys.routes):
                ended = self._read_operators(key, values.get(key))
                hosts, names = hosts | ended, names | ended
            elif key.startswith((self._keys.claimed_routes, self._keys.claimed_names)):
                claims.append(key)
        hosts.update(self._claimed_routes.remember(first))
        names.update(self._claimed_names.remember(first))
        for key in sorted(claims, key=lambda key: values[key].created if key in values else 0):
            self._read_claim(key, values, hosts, names)
        while (more := self._quotas.waiting()) is not None:
            self._read_claim(more, values, hosts, names)
        self._has_begun = True
        self._rest(hosts, names)
        return self._judge(hosts, names)

    def _rest(self, hosts: set[str], names: set[str]) -> None:
        """Names whose owners' last instances have gone. Of apps' only those are looked at that others claim, too."""
        askers, apps = self._holders.take_gone()
        for host, space in askers:
            if self.route_claims.holds.get(host) == space:
                self.route_claims.rest(host)
                hosts.add(host)
        for name in tuple(self.name_claims.left_out) if apps else ():
            if self.name_claims.holds.get(name) in apps:
                self.name_claims.rest(name)
                names.add(name)

    def _read_claim(self, key: str, values: Mapping[str, Value], hosts: set[str], names: set[str]) -> None:
        is_route = key.startswith(self._keys.claimed_routes)
        records = self._claimed_routes if is_route else self._claimed_names
        name = records.read(key, values.get(key), counts=self._has_begun)
        if name is not None:
            (hosts if is_route else names).add(name)

    def _judge(self, hosts: set[str], names: set[str]) -> bool:
        before = self.routes, self.names
        changed = hosts | self.route_claims.judge(hosts)
        self.routes = self.routes.after({host: self.route_claims.route(host) for host in changed})
        holds = self.name_claims.holds
        renamed = {name for name in names | self.name_claims.judge(names) if self.names.get(name) != holds.get(name)}
        if renamed:
            kept = {name: app for name, app in self.names.items() if name not in renamed}
            self.names = MappingProxyType(kept | {name: holds[name] for name in renamed if name in holds})
        self._is_flooded = self._rates.total > 2 * FEW
        return before[0] is not self.routes or before[1] is not self.names

    def _read_operators(self, key: str, value: Value | None) -> set[str]:
        """What the operator says of a route, which ends what was claimed before. The names that are to be judged anew."""
        if value == self._operators.get(key):
            return set()  # it is held, after a loss of data
        self._malformed.pop(key, None)
        host, route = forwards(key.removeprefix(self._keys.routes)), None
        if value is None:
            del self._operators[key]
        else:
            self._operators[key] = value
            try:
                if key != self._keys.route(host):
                    raise MalformedRecord("it is no name's key")
                found = name_records.decode_route(host, value)
                if found is not None:
                    self.check(host)
                route = found
            except ValueError as error:
                self._malformed[key] = str(error)
        if key != self._keys.route(host):
            return set()
        self.name_claims.forget(host)
        return self.route_claims.set_operators(host, route)
