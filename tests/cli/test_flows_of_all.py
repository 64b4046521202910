"""`flows --all` shows what cells have summed up, and says what is missing."""

import json

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("agent")


def test_what_flows_and_what_was_denied_are_shown_with_their_cells(cellnet: Cli) -> None:
    shown = cellnet("flows", "--all").out.splitlines()
    assert shown[1].split() == [
        "acme/shop/web", "acme/shop/api", "tcp/8080", "12", "one", "web-to-api", "(/etc/cellnet/policies.d/shop.yaml:3)",
    ]  # fmt: skip
    denied = cellnet("flows", "--all", "--denied").out.splitlines()
    assert denied[1].split() == ["acme/shop/web", "acme/shop/db", "tcp/5432", "3", "one", "policy"]
    (line,) = cellnet("flows", "--all", "--denied", "--port", "tcp/5432", "--json").out.splitlines()
    assert json.loads(line)["count"] == 3
    assert len(cellnet("flows", "--all", "--to", "acme/shop/web").out.splitlines()) == 1


def test_cells_that_say_nothing_are_named(cellnet: Cli) -> None:
    assert "nothing is known of two" in cellnet("flows", "--all").err


def test_they_are_not_followed(cellnet: Cli) -> None:
    done = cellnet("flows", "--all", "--follow")
    assert (done.code, "does not follow" in done.err) == (2, True)
