"""What a cell's records say, and whether they can be meant so: pure. Each is written by another machine, which may lie."""

import json
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeGuard, TypeVar

from agent.config.texts import address as reachable
from agent.config.texts import cell_name
from agent.model.attachment import INSTANCE_LIMIT, check_name, check_port, check_route
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName
from agent.store.etcd.client import Value
from agent.store.protocols import StoredPolicy
from agent.store.subnets import SubnetClaim
from agent.store.tags import LAST_TAG, TagClaim

Meant = TypeVar("Meant")
LATEST = 253_402_300_799  # the last second that a calendar has: a number beyond would stop whoever shows or compares it
LONGEST = 128  # characters of an id or a version
PRINTABLE = "an id and a version of at most 128 characters"


class Malformed(ValueError):
    """A record that cellnet has not written so."""


def policy(name: str, value: Value) -> StoredPolicy:
    """A policy. Raises Malformed, as the others do."""
    return StoredPolicy(name, text_of(object_of(value), "document"))


def claim(value: Value) -> TagClaim:
    """An app's tag."""
    found = object_of(value)
    tag, released = found.get("tag"), found.get("released")
    if not isinstance(tag, int) or isinstance(tag, bool) or not 1 <= tag <= LAST_TAG or not _is_release(released):
        raise Malformed("no tag of 1 to 65535 with the time of its release")
    return TagClaim(tag, released)


def subnet(address: str, value: Value) -> tuple[IPv4Network, SubnetClaim]:
    """A subnet and whose it is."""
    found = object_of(value)
    name, released = found.get("name", ""), found.get("released")
    if not isinstance(name, str) or not _is_release(released):
        raise Malformed("no cell's name with the time of its removal")
    try:
        return IPv4Network((address, found.get("prefix", 32))), SubnetClaim(text_of(found, "cell"), name, released)
    except (ValueError, TypeError) as error:
        raise Malformed("no subnet with a cell") from error


def needed(value: Value) -> frozenset[AppName]:
    """The apps that a cell needs."""
    found = _json(value)
    if not isinstance(found, list):
        raise Malformed("no list of apps")
    return frozenset(AppName.parse(str(each)) for each in found)


def needed_data(apps: Collection[AppName]) -> bytes:
    """A cell's record of those."""
    return json.dumps(sorted(map(str, apps)), separators=(",", ":")).encode()


def policy_data(policy: StoredPolicy) -> bytes:
    """A policy's record."""
    return data_of({"document": policy.document})


def claim_data(claim: TagClaim) -> bytes:
    """A tag's record."""
    return data_of({"tag": claim.tag, "released": claim.released})


def subnet_data(subnet: IPv4Network, claim: SubnetClaim) -> bytes:
    """A subnet's record."""
    content = {"cell": claim.cell, "name": claim.name, "prefix": subnet.prefixlen}
    return data_of(content if claim.released is None else content | {"released": claim.released})


def data_of(content: Mapping[str, object]) -> bytes:
    """A record, always the same for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def is_time(found: object) -> TypeGuard[float]:
    """Whether it can be seconds since 1970. JSON's numbers have no end."""
    return isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= LATEST


def _is_release(found: object) -> bool:
    return found is None or is_time(found)


def _json(value: Value) -> object:
    try:
        return json.loads(value.data)
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON") from error


def object_of(value: Value) -> dict[str, Any]:
    """A record that is an object. Raises Malformed."""
    found = _json(value)
    if not isinstance(found, dict):
        raise Malformed("not an object")
    return found


def text_of(found: Mapping[str, Any], key: str) -> str:
    """A text in a record. Raises Malformed."""
    text = found.get(key)
    if not isinstance(text, str):
        raise Malformed(f"no text in '{key}'")
    return text


def record(name: str, value: Value) -> CellRecord:
    """What a cell says of itself. Raises Malformed, or InvalidInput with what is wrong, as the others do."""
    found = object_of(value)
    lasting, version = text_of(found, "id"), text_of(found, "version")
    if not lasting or not all(each.isprintable() and len(each) <= LONGEST for each in (lasting, version)):
        raise Malformed(f"no {PRINTABLE}")
    subnet, underlay = IPv4Network(text_of(found, "subnet")), reachable(text_of(found, "underlay"))
    return CellRecord(cell_name(name), lasting, subnet, underlay, version)


def record_data(record: CellRecord) -> bytes:
    """A cell's record."""
    content = {"id": record.id, "subnet": str(record.subnet), "underlay": str(record.underlay), "version": record.version}
    return data_of(content)


def alive(value: Value) -> float:
    """Since when."""
    since = object_of(value).get("since")
    if not is_time(since):
        raise Malformed("no time since when")
    return _leased(value, float(since))


def alive_data(since: float) -> bytes:
    """A cell's sign of life."""
    return data_of({"since": since})


def endpoint(cell: str, name: str, value: Value) -> Endpoint:
    """One of a cell's, by its key."""
    found = object_of(value)
    ports, routes = found.get("ports", []), found.get("routes", [])
    if not isinstance(ports, list) or not isinstance(routes, list):
        raise Malformed("no lists of ports and routes")
    numbers, routes = tuple(map(_number, ports)), tuple(map(str, routes))
    for port in numbers:
        check_port(port)
    for route in routes:
        check_route(route)
    instance = _number(found.get("instance"))
    if not 0 <= instance <= INSTANCE_LIMIT:
        raise Malformed("no instance's number")
    made = Endpoint(
        cell=cell,
        name=check_name(name),
        app=AppName.parse(text_of(found, "app")),
        instance=instance,
        address=IPv4Address(text_of(found, "address")),
        ports=numbers,
        routes=routes,
    )
    return _leased(value, made)


def endpoint_data(endpoint: Endpoint) -> bytes:
    """An endpoint's record."""
    return data_of(
        {
            "app": str(endpoint.app),
            "instance": endpoint.instance,
            "address": str(endpoint.address),
            "ports": list(endpoint.ports),
            "routes": list(endpoint.routes),
        }
    )


def _leased(value: Value, meant: Meant) -> Meant:
    if value.lease == 0:
        raise Malformed("it hangs on no lease, so it would never go")
    return meant


def _number(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool):
        raise Malformed("no number where there should be one")
    return found
