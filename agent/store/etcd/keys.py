"""The layout below the prefix, and what the records say: pure.

    /cellnet/v1/policies/NAME              {"document": …}
    /cellnet/v1/policies/.accepted         {"generation": id, "everything": true, "keys": […]}: losses of data that are accepted
    /cellnet/v1/claims/generation          {"id": id, "before": id}: which data this is, and which it goes on from
    /cellnet/v1/tags/apps/ORG/SPACE/APP    {"tag": 7, "released": null or seconds since 1970}
    /cellnet/v1/tags/numbers/7             "ORG/SPACE/APP": two cells that take the same number meet here
    /cellnet/v1/claims/subnets/10.255.1.0  {"cell": id, "name": CELL, "prefix": 24, "released": seconds since 1970}
    /cellnet/v1/cells/CELL/apps            ["ORG/SPACE/APP", …]: whose tags this cell needs
    /cellnet/v1/cells/CELL/record          {"id": …, "subnet": …, "underlay": …, "version": …}
    /cellnet/v1/cells/CELL/alive           {"since": seconds since 1970}, on the cell's lease
    /cellnet/v1/endpoints/CELL/NAME        {"app": …, "instance": 0, "address": …, "ports": […], "routes": […]}, on it too
    /cellnet/v1/ca/trust                   PEM

The version in the key is the format's: a cell of a later format can live beside this one.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, TypeGuard

from agent.model.names import AppName
from agent.store.etcd.client import Value
from agent.store.store import StoredPolicy
from agent.store.subnets import SubnetClaim
from agent.store.tags import LAST_TAG, TagClaim

VERSION = "v1"
NEEDED = "apps"
RECORD = "record"
ALIVE = "alive"
LATEST = 253_402_300_799  # the last second that a calendar has: a number beyond would stop whoever shows or compares it


@dataclass(frozen=True, slots=True)
class Keys:
    """Where everything is below `prefix`."""

    prefix: str

    @property
    def root(self) -> str:
        """What all keys begin with."""
        return f"{self.prefix.rstrip('/')}/{VERSION}/"

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
        """What each cell says of itself."""
        return f"{self.root}cells/"

    @property
    def endpoints(self) -> str:
        """What runs on each cell."""
        return f"{self.root}endpoints/"

    @property
    def trust(self) -> str:
        """The roots that the operator has put there."""
        return f"{self.root}ca/trust"

    def cell(self, cell: str) -> str:
        """What all of one cell's records begin with, but for its endpoints."""
        return f"{self.cells}{cell}/"

    def record(self, cell: str) -> str:
        """One cell's record."""
        return f"{self.cells}{cell}/{RECORD}"

    def alive(self, cell: str) -> str:
        """One cell's sign of life."""
        return f"{self.cells}{cell}/{ALIVE}"

    def endpoints_of(self, cell: str) -> str:
        """What all of one cell's endpoints begin with."""
        return f"{self.endpoints}{cell}/"

    def needed(self, cell: str) -> str:
        """The apps that one cell needs."""
        return f"{self.cells}{cell}/{NEEDED}"

    @property
    def tags(self) -> str:
        """Apps and numbers."""
        return f"{self.root}tags/"

    @property
    def claims(self) -> str:
        """What any cell may take that nobody has."""
        return f"{self.root}claims/"

    @property
    def generation(self) -> str:
        """Which data this is; see recovery.py."""
        return f"{self.claims}generation"

    @property
    def accepted(self) -> str:
        """What the operator has given up of lost data: where he may write, under a name that no policy has."""
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
