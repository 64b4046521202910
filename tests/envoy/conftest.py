"""A running Envoy, two containers, and an app in the second."""

from collections.abc import Iterator

import pytest

from tests.testlib.envoy import EnvoyCell, Pair
from tests.testlib.envoy_peers import App


@pytest.fixture
def cell() -> Iterator[EnvoyCell]:
    made = EnvoyCell()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def app(pair: Pair) -> Iterator[App]:
    made = App(pair.api.path)
    yield made
    made.close()
