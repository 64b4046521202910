"""`cellnet drain` on the terminal: how far it is, and that it waits."""

import json

import pytest

from tests.cli.conftest import Cli
from tests.testlib.fakes.cell import FakeCell


@pytest.mark.usefixtures("agent")
def test_it_says_what_it_waits_for_and_what_has_gone(cellnet: Cli, cell: FakeCell) -> None:
    cellnet("attach", "--app=acme/shop/web", "--netns=/proc/self/ns/net", "--name=web")
    cellnet("attach", "--app=acme/shop/api", "--netns=/proc/self/ns/net", "--name=api")
    assert cellnet("drain", "web").out == "1 attachment, 1 open connection (web 1)\nweb is detached\n"
    done = cellnet("drain")
    assert done.out.splitlines() == [
        "1 attachment, 1 open connection (api 1)",
        "api is detached",
        "this cell is drained; 'cellnet drain --undo' when the maintenance is over",
    ]
    assert json.loads(cellnet("drain", "--undo", "--json").out) == {"undone": True}
    assert cellnet("drain", "--undo").out == "nothing was being drained\n"
    assert cell.views == {}


@pytest.mark.usefixtures("agent")
def test_undo_takes_no_name_and_a_name_that_is_not_there_is_refused(cellnet: Cli) -> None:
    assert "--undo takes back all" in cellnet("drain", "--undo", "web").err
    assert "there is no attachment 'web'" in cellnet("drain", "web").err
