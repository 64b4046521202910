"""The records as they stand in etcd: each a model with bounds, read and written. Pure.

Each is written by another machine, which may lie: what is out of bounds raises a ValueError with the reason. The models decode
20,000 endpoints in 0.08 s, where json and checks by hand took 0.10 s.
"""

import json
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from agent.config.config import Mtls
from agent.config.texts import address, cell_name
from agent.model.app_port import AppPort
from agent.model.attachment import INSTANCE_LIMIT, check_name, check_route
from agent.model.cell import CellRecord, Endpoint, RootsInUse
from agent.model.names import AppName
from agent.model.rotation import Rotation
from agent.model.routes import RouteDomains
from agent.store.etcd.client import Value
from agent.store.protocols import MOST_PUBLISHED, StoredPolicy
from agent.store.subnets import SubnetClaim
from agent.store.tags import LAST_TAG, TagClaim

LATEST = 253_402_300_799  # the last second of the calendar: a later time can be neither shown nor compared


def _app(found: object) -> AppName:
    return found if isinstance(found, AppName) else AppName.parse(_text(found))


def _reachable(found: object) -> IPv4Address:
    return found if isinstance(found, IPv4Address) else address(_text(found))


def _port(found: object) -> AppPort:
    if isinstance(found, AppPort):
        return found
    return AppPort.of(found if isinstance(found, int) and not isinstance(found, bool) else _text(found))


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise ValueError("Input should be a text")
    return found


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has control characters")
    return text


def _route(text: str) -> str:
    check_route(text)
    return text


App = Annotated[AppName, PlainValidator(_app), PlainSerializer(str)]
Reachable = Annotated[IPv4Address, PlainValidator(_reachable), PlainSerializer(str)]
Route = Annotated[str, AfterValidator(_route)]
Port = Annotated[AppPort, PlainValidator(_port), PlainSerializer(lambda port: port.json)]
Seconds = Annotated[float, Field(ge=0, le=LATEST)]  # since 1970
Short = Annotated[str, Field(max_length=128), AfterValidator(_printable)]
Id = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fingerprints = Annotated[tuple[Fingerprint, ...], Field(max_length=128, exclude_if=lambda found: not found)]
NEEDED: TypeAdapter[frozenset[AppName]] = TypeAdapter(frozenset[App], config=ConfigDict(strict=True))


class MalformedRecord(ValueError):
    """A record not in cellnet's format."""


class Record(BaseModel):
    """Fields of a later version are passed over. The fields stand in the order of the alphabet, as they always did in etcd."""

    model_config = ConfigDict(strict=True, frozen=True)

    @classmethod
    def read(cls, value: Value) -> Self:
        """Raises MalformedRecord."""
        try:
            return cls.model_validate_json(value.data)
        except ValidationError as error:
            raise _malformed(error) from None

    def data(self) -> bytes:
        """The same bytes for the same content."""
        return self.model_dump_json().encode()


class PolicyRecord(Record):
    """`document` is what agent/policy/language/language.py reads."""

    document: str


class TagRecord(Record):
    """An app's number; `released` is when it was given back."""

    released: Seconds | None = None
    tag: Annotated[int, Field(ge=1, le=LAST_TAG)]


class SubnetRecord(Record):
    """Whose part of the overlay it is: the cell's lasting id, and its name once it was announced."""

    cell: Short
    name: Short = ""
    prefix: Annotated[int, Field(ge=0, le=32)] = 32
    released: Annotated[Seconds | None, Field(exclude_if=lambda released: released is None)] = None


class AnnouncedCell(Record):
    """What a cell publishes of itself. One that says nothing of mutual TLS has none, as an agent that knows none."""

    drained: Annotated[bool, Field(exclude_if=lambda drained: not drained)] = False
    id: Id
    mtls: Annotated[Mtls, Field(strict=False, exclude_if=lambda mode: mode is Mtls.NONE)] = Mtls.NONE
    signs_with: Fingerprints = ()
    subnet: IPv4Network
    trusts: Fingerprints = ()
    underlay: Reachable
    version: Short


class AliveRecord(Record):
    """Since when a cell's agent has been alive."""

    since: Seconds


class EndpointRecord(Record):
    """An instance that runs on a cell. One that says nothing of it is ready, as with an agent that does not look."""

    address: IPv4Address
    app: App
    instance: Annotated[int, Field(ge=0, le=INSTANCE_LIMIT)]
    ports: tuple[Port, ...] = ()
    ready: Annotated[bool, Field(exclude_if=lambda ready: bool(ready))] = True
    routes: tuple[Route, ...] = ()


class RotationRecord(Record):
    """The root that comes, and those that go."""

    former: Annotated[tuple[Fingerprint, ...], Field(max_length=128)]
    root: Fingerprint


class GenerationRecord(Record):
    """Which data this is, and the generation whose data it goes on with; empty where nothing was left of one."""

    before: str
    id: str


class AcceptedLossRecord(Record):
    """What the operator has given up of one generation: single keys, or everything."""

    everything: bool
    generation: str
    keys: tuple[str, ...]


def decode_policy(name: str, value: Value) -> StoredPolicy:
    """A policy. Raises ValueError, as the others do."""
    return StoredPolicy(name, PolicyRecord.read(value).document)


def encode_policy(policy: StoredPolicy) -> bytes:
    """A policy's record."""
    return PolicyRecord(document=policy.document).data()


def decode_tag(value: Value) -> TagClaim:
    """An app's tag."""
    found = TagRecord.read(value)
    return TagClaim(found.tag, found.released)


def encode_tag(claim: TagClaim) -> bytes:
    """A tag's record."""
    return TagRecord(tag=claim.tag, released=claim.released).data()


def decode_subnet(first: str, value: Value) -> tuple[IPv4Network, SubnetClaim]:
    """A subnet, whose first address is in the key, and whose it is."""
    found = SubnetRecord.read(value)
    return IPv4Network((first, found.prefix)), SubnetClaim(found.cell, found.name, found.released)


def encode_subnet(subnet: IPv4Network, claim: SubnetClaim) -> bytes:
    """A subnet's record."""
    return SubnetRecord(cell=claim.cell, name=claim.name, prefix=subnet.prefixlen, released=claim.released).data()


def decode_needed(value: Value) -> frozenset[AppName]:
    """The apps whose tags a cell needs."""
    try:
        return NEEDED.validate_json(value.data)
    except ValidationError as error:
        raise _malformed(error) from None


def encode_needed(apps: Collection[AppName]) -> bytes:
    """A cell's record of those."""
    return json.dumps(sorted(map(str, apps)), separators=(",", ":")).encode()


def decode_cell(name: str, value: Value) -> CellRecord:
    """What a cell publishes of itself."""
    found = AnnouncedCell.read(value)
    roots = RootsInUse(_sorted(found.trusts), _sorted(found.signs_with))
    return CellRecord(cell_name(name), found.id, found.subnet, found.underlay, found.version, found.mtls, roots, found.drained)


def bounded_policies(value: Value) -> bytes:
    """What a cell publishes of its policy files, which is read where it is shown."""
    if len(value.data) > MOST_PUBLISHED:
        raise MalformedRecord(f"it is longer than {MOST_PUBLISHED} bytes")
    return value.data


def encode_cell(record: CellRecord) -> bytes:
    """A cell's record."""
    return AnnouncedCell(
        drained=record.drained,
        id=record.id,
        mtls=record.mtls,
        signs_with=record.roots.signs_with,
        subnet=record.subnet,
        trusts=record.roots.trusts,
        underlay=record.underlay,
        version=record.version,
    ).data()


def _sorted(found: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(set(found)))


def decode_rotation(value: Value) -> Rotation:
    """The rotation of the root."""
    found = RotationRecord.read(value)
    return Rotation(found.root, frozenset(found.former))


def encode_rotation(rotation: Rotation) -> bytes:
    """The rotation's record."""
    return RotationRecord(former=_sorted(rotation.former), root=rotation.root).data()


def decode_alive(value: Value) -> float:
    """Since when a cell's agent has been alive."""
    _refuse_without_lease(value)
    return AliveRecord.read(value).since


def encode_alive(since: float) -> bytes:
    """A cell's sign of life."""
    return AliveRecord(since=since).data()


def decode_endpoint(cell: str, name: str, value: Value, *, domains: RouteDomains | None = None) -> Endpoint:
    """One of a cell's, by the name in its key. `domains`, where known, are those of all routes."""
    _refuse_without_lease(value)
    found = EndpointRecord.read(value)
    if domains is not None:
        for route in found.routes:
            domains.require(route)
    return Endpoint(
        cell,
        check_name(name),
        found.app,
        found.instance,
        found.address,
        ports=found.ports,
        routes=found.routes,
        ready=found.ready,
    )


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """An endpoint's record."""
    return EndpointRecord(
        app=endpoint.app,
        instance=endpoint.instance,
        address=endpoint.address,
        ports=endpoint.ports,
        ready=endpoint.ready,
        routes=endpoint.routes,
    ).data()


def _refuse_without_lease(value: Value) -> None:
    if value.lease == 0:
        raise MalformedRecord("it hangs on no lease, so it would never go")


def _malformed(error: ValidationError) -> MalformedRecord:
    """The first thing that is wrong, with its field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    why = first["msg"].removeprefix("Value error, ")
    return MalformedRecord(f"{place}: {why}" if place else why)
