"""What summaries of many cells cost a real etcd: `python -m bench.summary_load`.

Each of 1,000 cells writes one of 8 KB, the largest there is, and one cell reads all. What etcd's process takes of a processor
for that is measured, and what its data grows by; once a minute is what cells do, so that is what the table says of a minute.
"""

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from agent.config.etcd import Etcd as Config
from agent.config.etcd import endpoint
from agent.insight.cell_summary import LARGEST
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.keys import Keys
from agent.store.etcd.summaries import EtcdSummaries
from bench.loads.load import processor_seconds
from lab.etcd import Etcd
from tests.testlib.stores.etcd import free_port

AT_ONCE: Final = 16  # cells that write at the same moment


@dataclass(frozen=True, slots=True)
class SummaryLoad:
    """Seconds of one processor, of etcd's process; milliseconds until all were read; bytes by which the data grew."""

    writing: float
    reading: float
    read_milliseconds: float
    grown: int


async def measure(cells: int, folder: Path) -> SummaryLoad:
    """One summary of each of so many cells, written and read."""
    etcd = Etcd(folder / "etcd", netns=None, host="127.0.0.1", port=free_port(), peer_port=free_port())
    etcd.start()
    client = EtcdClient(Config((endpoint(etcd.url),)))
    try:
        process = etcd.process
        assert process is not None
        lease, keys, places = await client.grant(600), Keys("/cellnet"), asyncio.Semaphore(AT_ONCE)

        async def write(number: int) -> None:
            async with places:
                one = EtcdSummaries(client, keys, cell=f"cell-{number}", lease=lambda: lease)
                await one.publish_summary(os.urandom(LARGEST // 2).hex().encode())

        (before, _), began = await client.size(), processor_seconds(process.pid)
        await asyncio.gather(*map(write, range(cells)))
        written, (after, _) = processor_seconds(process.pid), await client.size()
        start = time.monotonic()
        found = await EtcdSummaries(client, keys, cell="cell-0", lease=lambda: lease).summaries()
        took = (time.monotonic() - start) * 1000
        assert len(found) == cells
        return SummaryLoad(written - began, processor_seconds(process.pid) - written, took, after - before)
    finally:
        await client.close()
        etcd.kill()


@click.command()
@click.option("--cells", default=1_000, show_default=True)
def main(cells: int) -> None:
    """Measure it, and print what a minute of so many cells is."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(cells, Path(folder)))
    click.echo(f"{cells} cells write once: {found.writing:.2f} s of a processor, {found.grown / 2**20:.1f} MiB")
    click.echo(f"one cell reads all: {found.reading:.2f} s of a processor, {found.read_milliseconds:.0f} ms")


if __name__ == "__main__":
    main()
