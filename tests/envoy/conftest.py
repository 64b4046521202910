"""A running Envoy, two containers, and an app in the second."""

from collections.abc import Iterator

import pytest

from tests.testlib.envoy import EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp
from tests.testlib.tunnels.pair import TunnelPair


@pytest.fixture
def cell() -> Iterator[EnvoyCell]:
    made = EnvoyCell()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def pair() -> Iterator[EnvoyPair]:
    made = EnvoyPair()
    yield made
    made.close()


@pytest.fixture
def app(pair: EnvoyPair) -> Iterator[EchoApp]:
    made = EchoApp(pair.api.path)
    yield made
    made.close()


@pytest.fixture
def tunnels(cell: EnvoyCell, pair: EnvoyPair, app: EchoApp) -> TunnelPair:
    """Both containers call each other through tunnels; the app is in `api`, on port 8080."""
    return TunnelPair(cell, pair)
