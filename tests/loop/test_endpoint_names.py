"""What leads to which instance, of all cells: only to ready ones, by names that hold, and no work for what did not change."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.config import Dns
from agent.config.name_templates import NameTemplate
from agent.identity.names import NamesHeld, Naming, with_index
from agent.loop.endpoint_names import EndpointNames
from agent.model.attachment import Attachment
from agent.model.cell import Endpoint
from agent.model.names import AppName, Space
from agent.model.routes import Route, Routes
from tests.testlib.samples import FIRST, SECOND, app, attachment

WEB, API = app("web"), app("api")
THIRD, FAR = IPv4Address("10.255.1.4"), IPv4Address("10.255.2.2")
SHOP = Space("acme", "shop")
EMPTY = NamesHeld(Routes(), {})


class Claims:
    """Of the IndexStore what is asked here: changed as a store does."""

    def __init__(self) -> None:
        self._claims: dict[tuple[AppName, int], str] = {}
        self._claimed = set[tuple[AppName, int]]()

    def claim(self, of: AppName, number: int, cell: str | None) -> None:
        self._claims.pop((of, number), None)
        if cell is not None:
            self._claims[of, number] = cell
        self._claimed.add((of, number))

    def claimant(self, app: AppName, index: int) -> str | None:
        return self._claims.get((app, index))

    def take_claimed(self) -> frozenset[tuple[AppName, int]]:
        claimed, self._claimed = frozenset(self._claimed), set()
        return claimed

    async def claim_index(self, app: AppName, *, name: str, wanted: int | None, avoid: Collection[int]) -> int:
        raise NotImplementedError

    async def release_index(self, app: AppName, index: int, *, name: str) -> None:
        raise NotImplementedError

    def set_reserved(self, indexes: Mapping[tuple[AppName, int], str]) -> None:
        raise NotImplementedError


class Cluster:
    """What this cell (`here`) knows of names; `endpoints` are changed in place, as a store does."""

    def __init__(self) -> None:
        self.held = EMPTY
        self.endpoints: dict[IPv4Address, Endpoint] = {}
        self.here: tuple[Attachment, ...] = ()
        self.naming = Naming(Dns(names=(NameTemplate.parse("{app}.cpln.local"),)), lambda: self.held)
        self.claims = Claims()
        self.names = EndpointNames(self.naming, cell="here", claims=self.claims)

    def all(self) -> Mapping[IPv4Address, tuple[str, ...]]:
        return self.names.all(self.here, MappingProxyType(self.endpoints))

    def runs(self, address: IPv4Address, of: AppName = WEB, number: int = 0, *, ready: bool = True, routes: Iterable[str] = (),
             cell: str = "there") -> None:  # fmt: skip
        self.endpoints[address] = Endpoint(cell, f"x-{address}", of, number, address, (), tuple(routes), ready=ready)


def own(name: str, number: int = 0) -> tuple[str, ...]:
    return (f"{number}.{name}.shop.acme.cell.internal", f"{name}.shop.acme.cell.internal")


def test_instances_here_and_elsewhere_are_named_the_first_name_being_that_of_the_address() -> None:
    cluster = Cluster()
    cluster.here = (attachment(API, address=FIRST, instance=3),)
    cluster.runs(FAR, number=1)
    assert cluster.all() == {FIRST: own("api", 3), FAR: own("web", 1)}


def test_a_number_leads_only_to_the_cell_that_has_claimed_it_and_the_others_are_problems() -> None:
    cluster = Cluster()
    cluster.here = (attachment(WEB, address=FIRST, instance=0),)
    cluster.claims.claim(WEB, 0, "here")
    cluster.runs(FAR, cell="liar")
    assert cluster.all() == {FIRST: own("web"), FAR: own("web")[1:]}
    (problem,) = cluster.names.problems()
    assert "on liar has the number 0 of acme/shop/web, which is here's: no name leads to it by that" in problem.what
    assert cluster.all() is cluster.all()
    del cluster.endpoints[FAR]
    assert cluster.all() == {FIRST: own("web")}
    assert not list(cluster.names.problems())


def test_a_number_that_none_has_claimed_is_its_instances_until_one_does() -> None:
    cluster = Cluster()
    cluster.runs(FAR, cell="there")
    cluster.runs(THIRD, cell="elsewhere")
    assert cluster.all() == {FAR: own("web"), THIRD: own("web")}
    cluster.claims.claim(WEB, 0, "there")
    assert cluster.all() == {FAR: own("web"), THIRD: own("web")[1:]}
    del cluster.endpoints[FAR]
    assert cluster.all() == {THIRD: own("web")[1:]}, "the claim is there"
    cluster.claims.claim(WEB, 0, None)
    assert cluster.all() == {THIRD: own("web")}
    cluster.claims.claim(WEB, 0, "another")
    assert cluster.all() == {THIRD: own("web")[1:]}


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("cell", ["here", "there"])
@pytest.mark.parametrize("to", ["liar", None])
def test_a_claim_that_is_written_over_or_deleted_takes_no_number_from_what_runs(cell: str, to: str | None, ready: bool) -> None:
    cluster = Cluster()
    cluster.claims.claim(WEB, 0, cell)
    cluster.runs(FIRST, cell=cell, ready=ready)
    cluster.here = (attachment(WEB, address=FIRST, instance=0),) if cell == "here" and ready else ()
    mine = {FIRST: own("web")} if ready else {}
    assert cluster.all() == mine
    cluster.claims.claim(WEB, 0, to)
    cluster.runs(FAR, cell="liar")
    assert cluster.all() == {**mine, FAR: own("web")[1:]}
    cluster.here = ()
    del cluster.endpoints[FIRST]
    assert cluster.all() == {FAR: own("web")}, "it has gone"
    assert not list(cluster.names.problems())


def test_names_lead_to_no_instance_elsewhere_that_is_not_ready_and_follow_it() -> None:
    cluster = Cluster()
    for ready in (False, True, False, True):
        cluster.runs(FAR, ready=ready)
        assert cluster.all() == ({FAR: own("web")} if ready else {})
    del cluster.endpoints[FAR]
    assert cluster.all() == {}


def test_what_the_store_says_of_this_cell_counts_for_nothing() -> None:
    cluster = Cluster()
    cluster.here = (attachment(API, address=FIRST),)
    cluster.runs(FIRST, API, 7, cell="here")
    cluster.runs(SECOND, API, 8, cell="here")
    assert cluster.all() == {FIRST: own("api")}
    cluster.endpoints.clear()
    assert cluster.all() == {FIRST: own("api")}


def test_the_same_object_means_that_nothing_changed() -> None:
    cluster = Cluster()
    cluster.here = (attachment(API, address=FIRST),)
    cluster.runs(FAR)
    before = cluster.all()
    cluster.runs(FAR)  # another object that says the same
    cluster.here = (attachment(API, address=FIRST),)
    cluster.runs(THIRD, ready=False)
    cluster.held = NamesHeld(Routes({"x.apps.internal": Route("x.apps.internal", SHOP)}), {})  # nothing of these has it
    assert cluster.all() is before
    cluster.runs(FAR, number=1)
    after = cluster.all()
    assert after is not before
    assert before == {FIRST: own("api"), FAR: own("web")}  # what was given out before stays as it was


def test_a_route_concerns_the_instances_that_have_it_and_no_others() -> None:
    cluster = Cluster()
    cluster.here = (
        attachment(API, address=FIRST),
        replace(attachment(API, address=SECOND, name="b"), routes=("b.apps.internal",)),
    )
    cluster.runs(FAR, API, 2)
    cluster.runs(THIRD, WEB)
    before = dict(cluster.all())
    cluster.held = NamesHeld(
        Routes({
            "a.apps.internal": Route("a.apps.internal", SHOP, frozenset({API}), by_operator=True),
            "b.apps.internal": Route("b.apps.internal", SHOP),
        }),
        {},
    )  # fmt: skip
    mapped = ("0.a.apps.internal", "a.apps.internal")
    assert cluster.all() == {
        FIRST: own("api") + mapped,
        SECOND: own("api") + mapped + ("0.b.apps.internal", "b.apps.internal"),
        FAR: own("api", 2) + ("2.a.apps.internal", "a.apps.internal"),
        THIRD: own("web"),
    }
    assert cluster.all()[THIRD] is before[THIRD]
    cluster.held = EMPTY
    assert cluster.all() == before


def test_a_template_that_two_apps_could_share_names_the_one_that_has_claimed_it() -> None:
    cluster = Cluster()
    cluster.runs(FAR)
    cluster.runs(THIRD, AppName("acme", "other", "web"))
    cluster.held = NamesHeld(Routes(), {"web.cpln.local": WEB})
    assert cluster.all()[FAR] == own("web") + ("0.web.cpln.local", "web.cpln.local")
    assert "web.cpln.local" not in cluster.all()[THIRD]


@pytest.mark.parametrize("label", ["a" * 63])
def test_names_too_long_for_dns_are_left_out_whoever_writes_them(label: str) -> None:
    cluster = Cluster()
    cluster.runs(FAR, AppName(label, label, label), 65535)
    cluster.naming = Naming(Dns(domain=".".join(["d" * 60] * 3)), lambda: EMPTY)
    cluster.names = EndpointNames(cluster.naming, cell="here", claims=cluster.claims)
    assert cluster.all() == {}
    del cluster.endpoints[FAR]
    assert cluster.all() == {}


APPS = [app("a"), app("b"), AppName("acme", "other", "a")]
HOSTS = ["one.apps.internal", "two.apps.internal"]
routes = st.builds(
    lambda host, space, apps: Route(host, space, frozenset(apps), bool(apps)),
    st.sampled_from(HOSTS), st.sampled_from([SHOP, Space("acme", "other")]), st.sets(st.sampled_from(APPS), max_size=2),
)  # fmt: skip
helds = st.builds(
    lambda found, names: NamesHeld(Routes({each.host: each for each in found}), names),
    st.lists(routes, max_size=2), st.dictionaries(st.sampled_from(["a.cpln.local", "b.cpln.local"]), st.sampled_from(APPS)),
)  # fmt: skip
ADDRESSES = [FIRST, SECOND, THIRD, FAR]
endpoints = st.dictionaries(
    st.sampled_from(ADDRESSES),
    st.tuples(st.sampled_from(APPS), st.integers(0, 2), st.booleans(), st.sets(st.sampled_from(HOSTS))),
)


@given(states=st.lists(st.tuples(helds, endpoints), min_size=2, max_size=5))
def test_whatever_changes_the_names_are_those_that_would_be_made_anew(states: list[tuple[NamesHeld, dict]]) -> None:  # type: ignore[type-arg]
    cluster = Cluster()
    for held, running in states:
        cluster.held = held
        for address in ADDRESSES:
            cluster.endpoints.pop(address, None)
        for address, (of, number, ready, asked) in running.items():
            cluster.runs(address, of, number, ready=ready, routes=sorted(asked))
        assert cluster.all() == {
            address: with_index(cluster.naming.of(of, asked, held), number)
            for address, (of, number, ready, asked) in running.items()
            if ready
        }
