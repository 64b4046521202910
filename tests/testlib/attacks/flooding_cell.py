"""A cell that floods etcd with endpoints: `python -m tests.testlib.attacks.flooding_cell URL` does so until it is killed."""

import asyncio
import itertools
import sys
from ipaddress import IPv4Address, IPv4Network

from agent.config.etcd import Etcd, EtcdEndpoint
from agent.model.app_port import AppPort
from agent.model.cell import CellRecord, Endpoint
from agent.model.names import AppName
from agent.store.etcd import records
from agent.store.etcd.client import EtcdClient, put
from agent.store.etcd.keys import Keys
from agent.store.etcd.transactions import OPERATIONS
from agent.store.subnets import SubnetClaim

RECORD = CellRecord("flood", "id-of-flood", IPv4Network("10.255.200.0/24"), IPv4Address("10.77.0.200"), "0.1")
MANY = 20_000
A_SECOND, WRITERS = 500, 10  # changes
LEASE_SECONDS = 600
FILLED = "all endpoints are there"


def endpoint(number: int, port: int) -> Endpoint:
    subnet = RECORD.subnet
    return Endpoint(
        RECORD.name, f"x-{number}", AppName("acme", "shop", "web"), 0, subnet[2 + number % 253], ports=(AppPort(port),)
    )


async def flood(url: str, prefix: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    client, keys = EtcdClient(Etcd(endpoints=(EtcdEndpoint(host, int(port), tls=False),)), seconds=30.0), Keys(prefix)
    lease = await client.grant(LEASE_SECONDS)
    claim = SubnetClaim(RECORD.id, RECORD.name)
    await client.commit(
        do=[
            put(keys.record(RECORD.name), records.encode_cell(RECORD)),
            put(keys.alive(RECORD.name), records.encode_alive(5.0), lease=lease),
            put(keys.subnet(RECORD.subnet), records.encode_subnet(RECORD.subnet, claim)),
        ]
    )
    numbers, below = itertools.count(), keys.endpoints_of(RECORD.name)
    made = (put(f"{below}x-{number}", records.encode_endpoint(endpoint(number, 1)), lease=lease) for number in range(MANY))
    while batch := list(itertools.islice(made, OPERATIONS)):
        await client.commit(do=batch)
    print(FILLED, flush=True)

    async def write() -> None:
        for number in numbers:
            data = records.encode_endpoint(endpoint(number % MANY, 2 + number // MANY % 60_000))
            await client.commit(do=[put(f"{below}x-{number % MANY}", data, lease=lease)])
            await asyncio.sleep(WRITERS / A_SECOND)

    async with asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            writers.create_task(write())


if __name__ == "__main__":
    asyncio.run(flood(sys.argv[1], sys.argv[2]))
