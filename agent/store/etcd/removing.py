"""What it takes to forget a cell: all that it wrote, in one transaction that finds it still dead. Its subnet begins to rest."""

from collections.abc import Callable
from dataclasses import replace

from agent.store.etcd import records
from agent.store.etcd import rpc_pb2 as rpc
from agent.store.etcd.cells import Census
from agent.store.etcd.client import put
from agent.store.etcd.heartbeat import remove_below
from agent.store.etcd.keys import Keys
from agent.store.etcd.transactions import Plan
from agent.store.protocols import no_such_cell, still_alive


def removal(name: str, *, keys: Keys, census: Census, unchanged: Callable[[str], rpc.Compare], now: float) -> Plan:
    """Of a cell by its name, whatever its record says. Raises InvalidInput where it is not there, Conflict where it is alive.

    A subnet that was claimed under another name since (the host was renamed) is no longer this one's to give back.
    """
    if name not in census.names:
        raise no_such_cell(name, known=census.names)
    if census.alive_since(name) is not None:
        raise still_alive(name)
    record = census.records.get(name)
    when = [unchanged(keys.alive(name)), unchanged(keys.record(name))]
    do = [remove_below(keys.cell(name)), remove_below(keys.endpoints_of(name))]
    for subnet, claim in census.allotment.claims.items():
        its = claim.name == name or (claim.name == "" and record is not None and claim.cell == record.id)
        if its and claim.released is None:
            when.append(unchanged(keys.subnet(subnet)))
            do.append(put(keys.subnet(subnet), records.subnet_data(subnet, replace(claim, released=now))))
    return when, do
