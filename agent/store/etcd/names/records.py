"""The records of routes, of claims to names and of instances' numbers, as agent/store/etcd/records.py has the others. Pure."""

from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from pydantic import Field, PlainSerializer, PlainValidator

from agent.config.texts import cell_name
from agent.model.attachment import check_name
from agent.model.names import AppName, Space
from agent.model.routes import Route
from agent.store.etcd.client import Value
from agent.store.etcd.records import App, MalformedRecord, Record, Short

APPS = 1_000  # that one route can be mapped to

Owner = TypeVar("Owner", Space, AppName)


@dataclass(frozen=True, slots=True)
class Claim(Generic[Owner]):
    """Whose a name is to be, and the cell that claimed it, by its own word. `created`: the revision that made it."""

    owner: Owner
    cell: str
    created: int
    is_as_made: bool


@dataclass(frozen=True, slots=True)
class IndexClaim:
    """Which attachment has an instance's number, and on which cell."""

    cell: str
    name: str


def _space(found: object) -> Space:
    if not isinstance(found, Space | str):
        raise ValueError("Input should be a text")
    return found if isinstance(found, Space) else Space.parse(found)


SpaceText = Annotated[Space, PlainValidator(_space), PlainSerializer(str)]
Apps = Annotated[tuple[App, ...], Field(max_length=APPS)]


class ClaimRecord(Record):
    """Any claim to a name, of an owner of whatever kind."""

    owner: str


class RouteClaimRecord(Record):
    """An attach on `cell` has claimed a route for its space."""

    cell: Short
    owner: SpaceText


class NameClaimRecord(Record):
    """The same, of a name and an app."""

    cell: Short
    owner: App


class IndexRecord(Record):
    """An attachment has taken an instance's number."""

    cell: Short
    name: Short


class RouteRecord(Record):
    """What the operator says of a route: whose it is, or nothing (it is free, and what was claimed before has ended)."""

    apps: Apps = ()
    space: SpaceText | None = None
    without: Apps = ()


def decode_route_claim(value: Value) -> Claim[Space]:
    """Raises ValueError, as the others do."""
    found = RouteClaimRecord.read(value)
    return Claim(found.owner, cell_name(found.cell), value.created or value.revision, value.is_as_made)


def decode_name_claim(value: Value) -> Claim[AppName]:
    """The same, of a name."""
    found = NameClaimRecord.read(value)
    return Claim(found.owner, cell_name(found.cell), value.created or value.revision, value.is_as_made)


def encode_route_claim(space: Space, *, cell: str) -> bytes:
    """A claim's record."""
    return RouteClaimRecord(cell=cell, owner=space).data()


def encode_name_claim(app: AppName, *, cell: str) -> bytes:
    """A claim's record."""
    return NameClaimRecord(cell=cell, owner=app).data()


def decode_index(value: Value) -> IndexClaim:
    """Which attachment it is."""
    found = IndexRecord.read(value)
    return IndexClaim(cell_name(found.cell), check_name(found.name))


def encode_index(claim: IndexClaim) -> bytes:
    """Its record."""
    return IndexRecord(cell=claim.cell, name=claim.name).data()


def decode_route(host: str, value: Value) -> Route | None:
    """What the operator says of it; None: that it is free."""
    found = RouteRecord.read(value)
    if found.space is None:
        return None
    for app in (*found.apps, *found.without):
        if Space.of(app) != found.space:
            raise MalformedRecord(f"{app} is not of {found.space}")
    return Route(host, found.space, frozenset(found.apps), by_operator=True, without=frozenset(found.without))


def encode_route(route: Route | None) -> bytes:
    """Its record; None: that it is free."""
    if route is None:
        return RouteRecord().data()
    return RouteRecord(apps=tuple(sorted(route.apps)), space=route.space, without=tuple(sorted(route.without))).data()
