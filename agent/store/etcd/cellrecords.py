"""What a cell's records say, and whether they can be meant so: pure. Each is written by another machine, which may lie."""

from ipaddress import IPv4Address, IPv4Network
from typing import TypeVar

from agent.config.texts import address as reachable
from agent.config.texts import cell_name
from agent.model.attachment import INSTANCE_LIMIT, check_name, check_port, check_route
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName
from agent.store.etcd.client import Value
from agent.store.etcd.keys import Malformed, data_of, is_time, object_of, text_of

Meant = TypeVar("Meant")
LONGEST = 128  # characters of an id or a version
PRINTABLE = "an id and a version of at most 128 characters"


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
