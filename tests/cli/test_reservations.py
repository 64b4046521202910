"""`cellnet reserve`, `release`, `reservations`."""

import json

import pytest

from agent.model.app_port import AppPort
from agent.model.key_owner import KeyOwner
from tests.cli.conftest import Cli
from tests.testlib.fakes.cell import FakeCell

SEARCH = "--dns-search=shop.acme.cell.internal --dns-search=acme.cell.internal"
DNS = f"--dns=169.254.0.2 {SEARCH} --dns-option=ndots:2 --dns-option=edns0"


def place(name: str) -> str:
    """What a place has: environment, certificates, resolver."""
    folders = [f"/run/cellnet/identity/{each}" for each in ("_trust", name)]
    return f"--env-file=/run/cellnet/env/{name} {' '.join(f'--volume={each}:{each}:ro' for each in folders)} {DNS}"


@pytest.mark.usefixtures("agent")
def test_a_name_is_reserved_listed_and_released(cellnet: Cli, cell: FakeCell) -> None:
    words = ("reserve", "api", "--app=acme/shop/api", "--port=8080", "--instance=2", "--key-owner=1000:100")
    assert cellnet(*words).out == (
        "api is reserved for acme/shop/api, with 10.255.1.100\n"
        f"  podman run --name=api --network=cellnet {place('api')} IMAGE\n"
        "  its environment: /run/cellnet/env/api\n"
    )
    asked = cellnet("reserve", "web", "--app=acme/shop/web", "--podman")
    assert asked.out == f"--name=web --network=cellnet {place('web')}\n"
    assert (cell.reserved["api"].ports, cell.reserved["api"].key_owner) == ((AppPort(8080),), KeyOwner(1000, 100))
    assert cellnet("reservations").out.splitlines()[1:] == [
        "api   acme/shop/api  2         10.255.1.100  8080   -",
        "web   acme/shop/web  0         10.255.1.101  -      -",
    ]
    assert json.loads(cellnet("release", "api", "--json").out) == {"released": True}
    assert cellnet("release", "api").out == "there was no 'api'\n"
    assert [each["name"] for each in json.loads(cellnet("reservations", "--json").out)] == ["web"]


@pytest.mark.usefixtures("agent")
def test_what_cannot_be_reserved_says_why(cellnet: Cli) -> None:
    assert "is not an attachment's name" in cellnet("reserve", "-", "--app=acme/shop/web").err
    assert cellnet("reserve", "web", "--app=acme/shop/web", "--route=*.apps.internal").code == 2
