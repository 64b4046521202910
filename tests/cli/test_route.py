"""`cellnet route`: what the operator maps is listed, and unmapped from one app or from all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.model.names import Space
from tests.cli.conftest import Cli
from tests.testlib.fakes.cell import FakeCell

HOST = "shop.apps.internal"


@pytest.mark.usefixtures("agent")
async def test_routes_are_mapped_listed_and_unmapped(cellnet: Cli, cell: FakeCell) -> None:
    assert cellnet("route", "map", "acme/shop/web", HOST).out == f"{HOST} leads to acme/shop/web\n"
    cellnet("route", "map", "acme/shop/api", HOST)
    await cell.names.claim_route("b.apps.internal", Space("acme", "blog"))
    cell.instances = {HOST: 3}
    assert [line.split("  ") for line in cellnet("route", "list").out.splitlines()] == [
        line.split("  ")
        for line in (
            "ROUTE               SPACE      APPS                          INSTANCES",
            "b.apps.internal     acme/blog  claimed at attach             0",
            "shop.apps.internal  acme/shop  acme/shop/api, acme/shop/web  3",
        )
    ]
    assert cellnet("route", "unmap", HOST, "acme/shop/api").out == f"{HOST} no longer leads to acme/shop/api\n"
    assert cellnet("route", "unmap", HOST).out == f"{HOST} is free\n"
    assert cellnet("route", "unmap", HOST).code == 1
    assert json.loads(cellnet("route", "list", "--json").out) == [
        {"host": "b.apps.internal", "space": "acme/blog", "apps": [], "claimed": True, "instances": 0}
    ]


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("words", "code", "what", "hint"),
    [
        (("acme/shop/web", "*.apps.internal"), 2, "'*.apps.internal' is not a route: a route is one name", "list each name"),
        (("acme/shop/web", "web.example.org"), 2, "lies below no route domain", "write a name below apps.internal"),
        (("acme/blog/web", HOST), 1, f"the route {HOST} belongs to acme/shop", f"cellnet route unmap {HOST}"),
        (("acme/blog/web", f"a.{HOST}"), 1, f"lies below {HOST}, of acme/shop", f"cellnet route unmap {HOST}"),
    ],
)
def test_what_cannot_be_mapped_says_why(cellnet: Cli, words: tuple[str, str], code: int, what: str, hint: str) -> None:
    cellnet("route", "map", "acme/shop/api", HOST)
    done = cellnet("route", "map", *words)
    assert done.code == code
    assert what in done.err
    assert hint in done.err


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("route", "map", "acme/shop/wbe", HOST), f"{HOST} leads to acme/shop/wbe\n"),
        (("route", "unmap", HOST, "acme/shop/wbe"), f"{HOST} did not lead to acme/shop/wbe\n"),
        (("map-route", "acme/shop/wbe", "apps.internal", "--hostname", "shop"), f"{HOST} leads to acme/shop/wbe\nOK\n"),
        (
            ("unmap-route", "acme/shop/wbe", "apps.internal", "--hostname", "shop"),
            f"{HOST} did not lead to acme/shop/wbe\nOK\n",
        ),
    ],
)
def test_an_app_that_is_probably_mistyped_is_warned_of(cellnet: Cli, words: tuple[str, ...], answer: str) -> None:
    cellnet("route", "map", "acme/shop/web", HOST)
    done = cellnet(*words)
    assert done.err == "warning: nothing of acme/shop/wbe runs here or is named; did you mean acme/shop/web?\n"
    assert (done.code, done.out) == (0, answer)


def test_routes_are_completed(agent: Path, cellnet: Cli) -> None:
    for host in (HOST, "so.apps.internal", "b.apps.internal"):
        cellnet("route", "map", "acme/shop/web", host)
    words = {"_CELLNET_COMPLETE": "bash_complete", "COMP_WORDS": "cellnet route unmap s", "COMP_CWORD": "3"}
    environment = {**os.environ, **words, "CELLNET_ROOT": str(agent)}
    done = subprocess.run([sys.executable, "-m", "agent"], env=environment, capture_output=True, text=True)
    assert done.stdout == f"plain,{HOST}\nplain,so.apps.internal\n"
