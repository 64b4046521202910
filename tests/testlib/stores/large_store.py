"""A large store, as a thousand cells leave it.

`python -m tests.testlib.stores.large_store URL` writes it into the etcd there.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName
from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.keys import Keys
from agent.store.protocols import StoredPolicy
from agent.store.subnets import SubnetClaim
from agent.store.tags import TagClaim

NETWORK = IPv4Network("10.252.0.0/14")
CELLS, CONTAINERS, APPS, POLICIES = 1_000, 5, 5_000, 60_000
FIRST_TAG = 100
DAY = 24 * 3600
OPERATIONS = 120  # of one transaction
BELOW = Keys("/cellnet")


def record(number: int, *, underlay: IPv4Address | None = None) -> CellRecord:
    """Peer 1 to CELLS. The network's first subnets are those of the cells that really run."""
    subnet = IPv4Network((int(NETWORK.network_address) + (number + 10) * 256, 24))
    return CellRecord(f"peer-{number}", f"id-{number}", subnet, underlay or IPv4Address("10.78.0.0") + number, "0.1.0")


def app(number: int) -> AppName:
    return AppName.parse(f"org-{number % 50}/space-{number % 250}/app-{number}")


def policy(name: str, source: AppName | str, to: AppName | str, port: int) -> StoredPolicy:
    rule = {"name": name, "from": [str(source)], "to": str(to), "tcp": [str(port)]}
    return StoredPolicy(name, json.dumps({"policies": [rule]}))


def policies() -> Iterator[StoredPolicy]:
    """As many for each app."""
    for number in range(POLICIES):
        source, target = app(number % APPS), app((number * 7 + number // APPS + 1) % APPS)
        yield policy(f"policy-{number}", source, target, 1_024 + number % 60_000)


def writes(lease: int) -> Iterator[rpc.RequestOp]:
    """All of it."""
    for number in range(1, CELLS + 1):
        cell = record(number)
        yield put(BELOW.record(cell.name), records.encode_cell(cell))
        yield put(BELOW.subnet(cell.subnet), records.encode_subnet(cell.subnet, SubnetClaim(cell.id, cell.name)))
        yield put(BELOW.alive(cell.name), records.encode_alive(1_700_000_000.0), lease=lease)
        for place in range(CONTAINERS):
            made = Endpoint(cell.name, f"c-{place}", app((number * CONTAINERS + place) % APPS), 0, cell.subnet[place + 2])
            yield put(BELOW.endpoints_of(cell.name) + made.name, records.encode_endpoint(made), lease=lease)
    for number in range(APPS):
        yield put(BELOW.app(app(number)), records.encode_tag(TagClaim(FIRST_TAG + number, None)))
        yield put(BELOW.number(FIRST_TAG + number), str(app(number)).encode())
    for each in policies():
        yield put(BELOW.policy(each.name), records.encode_policy(each))


async def fill(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    client = EtcdClient(Etcd(endpoints=(EtcdEndpoint(host, int(port), tls=False),)), seconds=30.0)
    lease, batch = await client.grant(DAY), list[rpc.RequestOp]()
    for each in writes(lease):
        batch.append(each)
        if len(batch) == OPERATIONS:
            await client.commit(do=batch)
            batch.clear()
    await client.commit(do=batch)
    await client.close()


if __name__ == "__main__":
    asyncio.run(fill(sys.argv[1]))
