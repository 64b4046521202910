"""What one cell makes of routes, claims and claimed names as they change in an etcd: without the etcd."""

from ipaddress import IPv4Address

from agent.model.cell import Endpoint
from agent.model.names import AppName, Space
from agent.model.routes import Route
from agent.store.etcd.client import Value
from agent.store.etcd.keys import Keys
from agent.store.etcd.names import records as name_records
from agent.store.etcd.names.claim_quotas import ClaimQuotas
from agent.store.etcd.names.first_claims import REST
from agent.store.etcd.names.holders import Holders
from agent.store.etcd.names.view import RoutesAndNames
from tests.testlib.samples import ROUTE_DOMAINS

KEYS = Keys("/cellnet")
SHOP, BLOG = Space.parse("acme/shop"), Space.parse("acme/blog")
WEB, PRESS = AppName.parse("acme/shop/web"), AppName.parse("acme/blog/press")
HOST = "backend.apps.internal"
CLAIM, OPERATORS = KEYS.claimed_route(HOST), KEYS.route(HOST)
Values = dict[str, Value]


class NameView:
    """What one cell makes of what it reads, change by change."""

    def __init__(self, *, first: dict[str, str] | None = None, values: Values | None = None, quotas: ClaimQuotas | None = None):
        self.now = 1_000.0
        self.values: Values = dict(values or {})
        self.revision = max((each.revision for each in self.values.values()), default=0)
        self.holders = Holders()
        self.found = RoutesAndNames(KEYS, holders=self.holders, domains=ROUTE_DOMAINS, now=lambda: self.now, quotas=quotas)
        self.found.update(self.values, self.values, first=first or {})

    def put(self, key: str, data: bytes) -> bool:
        self.revision += 1
        before = self.values.get(key)
        self.values[key] = Value(data, self.revision, 0, before.created if before else self.revision)
        return self.found.update([key], self.values)

    def delete(self, *keys: str) -> bool:
        self.revision += 1
        for key in keys:
            self.values.pop(key, None)
        return self.found.update(keys, self.values)

    def claim(self, host: str, space: Space = SHOP, *, cell: str = "cell-1") -> bool:
        return self.put(KEYS.claimed_route(host), name_records.encode_route_claim(space, cell=cell))

    def remake(self, host: str, space: Space, *, cell: str = "cell-9") -> bool:
        """Delete a claim and make it anew, which one batch of changes shows as another record."""
        self.revision += 2
        data = name_records.encode_route_claim(space, cell=cell)
        self.values[KEYS.claimed_route(host)] = Value(data, self.revision, 0, self.revision)
        return self.found.update([KEYS.claimed_route(host)], self.values)

    def operate(self, host: str, route: Route | None) -> bool:
        """The operator maps or frees it, which deletes the claim."""
        self.revision += 1
        before = self.values.get(KEYS.route(host))
        created = before.created if before else self.revision
        self.values[KEYS.route(host)] = Value(name_records.encode_route(route), self.revision, 0, created)
        gone = self.values.pop(KEYS.claimed_route(host), None)
        return self.found.update([KEYS.route(host)] + [KEYS.claimed_route(host)] * bool(gone), self.values)

    def run(self, app: AppName, *routes: str) -> Endpoint:
        made = Endpoint("cell-1", app.app, app, 0, IPv4Address("10.255.1.2"), routes=routes)
        self.holders.change([], [made])
        self.found.update([], self.values)
        return made

    def wait(self) -> bool:
        """What rests has rested."""
        self.now += REST + 1
        return self.found.update([], self.values)

    def end(self, each: Endpoint) -> bool:
        self.holders.change([each], [])
        return self.found.update([], self.values)

    @property
    def spaces(self) -> dict[str, Space]:
        return {host: route.space for host, route in self.found.routes.items()}

    @property
    def why(self) -> str:
        (why,) = self.found.left_out.values()
        return why

    def restarted(self) -> "NameView":
        """The same cell's next agent, which has the copy on the disk."""
        return NameView(values=self.values, first=dict(self.found.disputed()))

    def fresh(self) -> "NameView":
        """A cell that has never seen anything before."""
        return NameView(values=self.values)
