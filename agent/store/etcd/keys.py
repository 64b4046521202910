"""The layout below the prefix. Pure. records.py has the records.

    /cellnet/v1/policies/NAME              {"document": …}
    /cellnet/v1/policies/.accepted         {"generation": id, "everything": true, "keys": […]}: losses of data that are accepted
    /cellnet/v1/claims/generation          {"id": id, "before": id}: which data this is, and which it goes on from
    /cellnet/v1/tags/apps/ORG/SPACE/APP    {"tag": 7, "released": null or seconds since 1970}
    /cellnet/v1/tags/numbers/7             "ORG/SPACE/APP": two cells that take the same number meet here
    /cellnet/v1/claims/subnets/10.255.1.0  {"cell": id, "name": CELL, "prefix": 24, "released": seconds since 1970}
    /cellnet/v1/claims/routes/internal/apps/web    {"cell": CELL, "owner": "ORG/SPACE"}: from an attach there, never changed
    /cellnet/v1/claims/names/NAME          {"cell": CELL, "owner": "ORG/SPACE/APP"}: the same for names that two apps could have
    /cellnet/v1/claims/indexes/ORG/SPACE/APP/0     {"cell": CELL, "name": NAME}: which attachment there is this instance
    /cellnet/v1/routes/internal/apps/web   {"apps": ["ORG/SPACE/APP", …], "space": "ORG/SPACE", "without": [the same]}: the
                                           operator's; one without a space has ended what was claimed before
    /cellnet/v1/cells/CELL/apps            ["ORG/SPACE/APP", …]: whose tags this cell needs
    /cellnet/v1/cells/CELL/policies        {"left_out": 0, "policies": …}: what its files allow, for others to show
    /cellnet/v1/cells/CELL/record          {"id": …, "signs_with": […], "subnet": …, "trusts": […], "underlay": …, "version": …}
    /cellnet/v1/cells/CELL/alive           {"since": seconds since 1970}, on the cell's lease
    /cellnet/v1/endpoints/CELL/NAME        {"app": …, "instance": 0, "address": …, "ports": […], "routes": […]}, on it too
    /cellnet/v1/ca/trust                   PEM
    /cellnet/v1/ca/rotation                {"former": […], "root": …}: fingerprints
    /cellnet/summaries/v1/CELL             what flowed there in the last minute, on the cell's lease; no cell watches it
    /cellnet/explain/v1/questions/CELL/ASKER   what ASKER asks CELL for `explain`, for seconds; CELL watches those to itself
    /cellnet/explain/v1/answers/CELL/ASKER     what CELL has answered, for seconds
    /cellnet/trail/v1/MICROSECONDS-CELL    {"at": …, "cell": …, "done": …, "names": […], "uid": 0, …}: who changed policies

The version in the key is the format's: a cell of a later format can live beside this one.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network

from agent.model.names import AppName

VERSION = "v1"
NEEDED = "apps"
RECORD = "record"
ALIVE = "alive"
POLICIES = "policies"


@dataclass(frozen=True, slots=True)
class Keys:
    """Where everything is below `prefix`."""

    prefix: str

    @property
    def root(self) -> str:
        """What all keys begin with."""
        return f"{self.prefix.rstrip('/')}/{VERSION}/"

    @property
    def summaries(self) -> str:
        """What the keys of cells' summaries begin with: not below `root`, which every cell watches."""
        return f"{self.prefix.rstrip('/')}/summaries/{VERSION}/"

    @property
    def trail(self) -> str:
        """Who changed policies, by moment; not below `root` either."""
        return f"{self.prefix.rstrip('/')}/trail/{VERSION}/"

    def questions_to(self, cell: str) -> str:
        """What the keys of questions to one cell begin with, the asker's name behind it; not below `root` either."""
        return f"{self.prefix.rstrip('/')}/explain/{VERSION}/questions/{cell}/"

    def answers_of(self, cell: str) -> str:
        """The same for its answers."""
        return f"{self.prefix.rstrip('/')}/explain/{VERSION}/answers/{cell}/"

    @property
    def policies(self) -> str:
        """Policies by name."""
        return f"{self.root}policies/"

    @property
    def apps(self) -> str:
        """Tags by app."""
        return f"{self.root}tags/apps/"

    @property
    def numbers(self) -> str:
        """Apps by tag."""
        return f"{self.root}tags/numbers/"

    @property
    def subnets(self) -> str:
        """Cells by subnet."""
        return f"{self.root}claims/subnets/"

    @property
    def cells(self) -> str:
        """What each cell publishes of itself."""
        return f"{self.root}cells/"

    @property
    def endpoints(self) -> str:
        """What runs on each cell."""
        return f"{self.root}endpoints/"

    @property
    def trust(self) -> str:
        """The roots that the operator has published."""
        return f"{self.root}ca/trust"

    @property
    def rotation(self) -> str:
        """The rotation of the root that is under way."""
        return f"{self.root}ca/rotation"

    def cell(self, cell: str) -> str:
        """What the keys of one cell's records begin with, but for its endpoints."""
        return f"{self.cells}{cell}/"

    def record(self, cell: str) -> str:
        """One cell's record."""
        return f"{self.cells}{cell}/{RECORD}"

    def alive(self, cell: str) -> str:
        """One cell's sign of life."""
        return f"{self.cells}{cell}/{ALIVE}"

    def file_policies(self, cell: str) -> str:
        """What one cell's policy files allow."""
        return f"{self.cells}{cell}/{POLICIES}"

    def endpoints_of(self, cell: str) -> str:
        """What the keys of one cell's endpoints begin with."""
        return f"{self.endpoints}{cell}/"

    def is_of_a_cell(self, key: str) -> bool:
        """Whether it is what a cell publishes of itself: any cell may write without end there."""
        return key.startswith((self.cells, self.endpoints))

    def needed(self, cell: str) -> str:
        """The apps that one cell needs."""
        return f"{self.cells}{cell}/{NEEDED}"

    @property
    def tags(self) -> str:
        """Apps and numbers."""
        return f"{self.root}tags/"

    @property
    def claims(self) -> str:
        """What any cell may take that no other has."""
        return f"{self.root}claims/"

    @property
    def claimed_routes(self) -> str:
        """Spaces by route."""
        return f"{self.claims}routes/"

    @property
    def claimed_names(self) -> str:
        """Apps by name."""
        return f"{self.claims}names/"

    @property
    def indexes(self) -> str:
        """Attachments by instance."""
        return f"{self.claims}indexes/"

    @property
    def routes(self) -> str:
        """What the operator has mapped and freed."""
        return f"{self.root}routes/"

    @property
    def generation(self) -> str:
        """Which data this is; see loss/generation.py."""
        return f"{self.claims}generation"

    @property
    def accepted(self) -> str:
        """What the operator has given up of lost data: among the policies, as operators may write there."""
        return f"{self.policies}.accepted"

    def policy(self, name: str) -> str:
        """One policy."""
        return self.policies + name

    def app(self, app: AppName) -> str:
        """One app's tag."""
        return f"{self.apps}{app}"

    def number(self, tag: int) -> str:
        """One tag's app."""
        return f"{self.numbers}{tag}"

    def subnet(self, subnet: IPv4Network) -> str:
        """One subnet's cell."""
        return f"{self.subnets}{subnet.network_address}"

    def route(self, host: str) -> str:
        """What the operator says of one route. The names below it are the keys below this one."""
        return self.routes + backwards(host)

    def claimed_route(self, host: str) -> str:
        """One route's space; the same of the names below it."""
        return self.claimed_routes + backwards(host)

    def claimed_name(self, name: str) -> str:
        """One name's app."""
        return self.claimed_names + name

    def index(self, app: AppName, index: int) -> str:
        """One instance's attachment."""
        return f"{self.indexes}{app}/{index}"


def backwards(host: str) -> str:
    """`web.apps.internal` -> `internal/apps/web`."""
    return "/".join(reversed(host.split(".")))


def forwards(rest: str) -> str:
    """The same back. Another key may come to the same name: see whether it is the name's own."""
    return ".".join(reversed(rest.split("/")))
