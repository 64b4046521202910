"""`cellnet reserve`, `release`, `reservations`."""

import json

import pytest

from agent.model.app_port import AppPort
from agent.model.key_owner import KeyOwner
from tests.cli.conftest import Cli
from tests.testlib.fake_cell import FakeCell

SEARCH = "--dns-search=shop.acme.cell.internal --dns-search=acme.cell.internal"
DNS = f"--dns=169.254.0.2 {SEARCH} --dns-option=ndots:2 --dns-option=edns0"


@pytest.mark.usefixtures("agent")
def test_a_name_is_reserved_listed_and_released(cellnet: Cli, cell: FakeCell) -> None:
    words = ("reserve", "api", "--app=acme/shop/api", "--port=8080", "--instance=2", "--key-owner=1000:100")
    assert cellnet(*words).out == (
        f"api is reserved for acme/shop/api\n  podman run --name=api --network=cellnet {DNS} IMAGE\n"
    )
    assert cellnet("reserve", "web", "--app=acme/shop/web", "--podman").out == f"--name=web --network=cellnet {DNS}\n"
    assert (cell.reserved["api"].ports, cell.reserved["api"].key_owner) == ((AppPort(8080),), KeyOwner(1000, 100))
    assert cellnet("reservations").out.splitlines()[1:] == [
        "api   acme/shop/api  2         8080   -",
        "web   acme/shop/web  -         -      -",
    ]
    assert json.loads(cellnet("release", "api", "--json").out) == {"released": True}
    assert cellnet("release", "api").out == "there was no 'api'\n"
    assert [each["name"] for each in json.loads(cellnet("reservations", "--json").out)] == ["web"]


@pytest.mark.usefixtures("agent")
def test_what_cannot_be_reserved_says_why(cellnet: Cli) -> None:
    assert "is not an attachment's name" in cellnet("reserve", "-", "--app=acme/shop/web").err
    assert cellnet("reserve", "web", "--app=acme/shop/web", "--route=*.apps.internal").code == 2
