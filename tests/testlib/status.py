"""What a cell's status and lists report: its problems, its peers, the cells of the store."""

import json
from contextlib import suppress

from agent.client.answer import Fields
from agent.errors import Unavailable
from tests.testlib.cell import CellUnderTest


def problems(cell: CellUnderTest) -> dict[str, str]:
    """All problems by area, each with its hint."""
    found: dict[str, str] = {}
    for each in cell.status().at("problems").each():
        found[each.text("area")] = found.get(each.text("area"), "") + each.text("what") + "; " + each.text("hint") + "\n"
    return found


def reports(cell: CellUnderTest, area: str, words: str = "") -> bool:
    """Whether there is a problem of an area with these words; never of an agent that is just starting."""
    with suppress(Unavailable):
        found = problems(cell)
        return area in found and words in found[area]
    return False


def is_well(cell: CellUnderTest) -> bool:
    """Whether there is no problem; never of an agent that is just starting."""
    with suppress(Unavailable):
        return cell.status().flag("ok")
    return False


def name_of(cell: CellUnderTest) -> str:
    """The cell's name."""
    return f"cell-{cell.lab.number}"


def peer(seen_by: CellUnderTest, cell: CellUnderTest) -> Fields | None:
    """The row of `cell` in another cell's status, None if there is none."""
    found = seen_by.status().at("peers").each()
    return next((each for each in found if each.text("name") == name_of(cell)), None)


def is_seen_alive(cell: CellUnderTest, *, by: CellUnderTest) -> bool:
    """Whether the status of another cell shows the agent of `cell` as alive."""
    found = peer(by, cell)
    return found is not None and not found.at("alive_since").missing


def listed(cell: CellUnderTest) -> dict[str, dict[str, object]]:
    """`cellnet cell list`, by name."""
    return {each["name"]: each for each in json.loads(cell.cellnet("cell", "list", "--json").out)}
