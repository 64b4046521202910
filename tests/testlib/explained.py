"""What `cellnet explain` prints, asked at the socket: without a process for each question."""

import click

from agent.cli.insight.explain import page
from tests.testlib.cell import CellUnderTest


def explained(cell: CellUnderTest, source: str, to: str, port: str) -> str:
    """All of its lines."""
    return click.unstyle(page(cell.client.get("/v1/explain", **{"from": source, "to": to, "port": port})))
