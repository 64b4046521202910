"""What the hop hears of a name server outside, asked in the test's own process; and answers that somebody forges."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import dns.message
import dns.rrset

from dataplane.dns.hop.messages import FoundAddresses
from dataplane.dns.hop.name_servers import NameServers
from host.namespace import run_in
from tests.testlib.node import Node

NAME, RIGHT, FORGED = "api.example.com", "192.0.2.1", "198.51.100.66"
SERVER = IPv4Address("127.0.0.53")


def asked(place: Node, tmp_path: Path, *names: str) -> list[FoundAddresses]:
    """What one hop hears of SERVER, asked for all of these at once."""
    file = tmp_path / "upstreams"
    file.write_text(f"server={SERVER}#53\n")

    async def ask() -> list[FoundAddresses]:
        async with asyncio.TaskGroup() as tasks:
            servers = NameServers(file, tasks=tasks, clock=time.monotonic)
            return list(await asyncio.gather(*map(servers.addresses, names)))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: run_in(place.pin, lambda: asyncio.run(ask()))).result()


def addresses(found: FoundAddresses) -> list[str]:
    """As texts."""
    return list(map(str, found.addresses))


def forged(question: dns.message.Message, *, number: int = 0, name: str = NAME) -> bytes:
    """An answer to a question, with another number or another name."""
    made = dns.message.make_response(question)
    made.id = (question.id + number) % 0x10000
    if name != NAME:
        made.question[0].name = dns.name.from_text(name)
    made.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "A", FORGED))
    return made.to_wire()
