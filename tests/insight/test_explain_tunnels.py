"""How TCP goes from cell to cell follows from how both take it, and where that does not fit it is said what refuses it."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest

from agent.config.config import Mtls
from agent.insight.explain.tunnels import TunnelFacts, TunnelSteps
from agent.insight.explain.way import AskedWay, WayStep
from agent.model.cell import Endpoint
from agent.model.policy import Protocol
from tests.testlib.samples import app

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WEB, API = (Endpoint(*each) for each in (("one", "web", app("web"), 0, IPv4Address("10.255.1.2")),
                                         ("two", "api", app("api"), 0, IPv4Address("10.255.2.2"))))  # fmt: skip


async def steps(
    one: Mtls, two: Mtls, *, port: int = 80, protocol: Protocol = Protocol.TCP, called: Endpoint = API, late: bool = False
) -> list[WayStep]:
    async def modes() -> dict[str, Mtls]:
        return {"one": one, "two": two}

    facts = TunnelFacts(
        "one", 61443, modes, lambda _: NOW + timedelta(hours=1), lambda: NOW, lambda: True, lambda: "", lambda _: late
    )
    way = AskedWay(WEB.app, called.app, protocol, port, f"{protocol.value}/{port}", (WEB,), (called,))
    return list(await TunnelSteps(facts).steps(way))


@pytest.mark.parametrize(
    ("one", "two", "ok", "words"),
    [
        (Mtls.NONE, Mtls.NONE, None, "it goes in plain text"),
        (Mtls.NONE, Mtls.ACCEPT, None, "it goes in plain text"),
        (Mtls.ACCEPT, Mtls.NONE, None, "it goes in plain text"),
        (Mtls.ACCEPT, Mtls.ACCEPT, None, "it goes through mutual TLS"),
        (Mtls.ACCEPT, Mtls.STRICT, None, "it goes through mutual TLS"),
        (Mtls.STRICT, Mtls.ACCEPT, None, "it goes through mutual TLS"),
        (Mtls.STRICT, Mtls.STRICT, None, "it goes through mutual TLS"),
        (Mtls.NONE, Mtls.STRICT, False, "two takes TCP through tunnels only, and one sends it in plain text"),
        (Mtls.STRICT, Mtls.NONE, False, "one sends TCP through tunnels only, and two takes none"),
    ],
)  # fmt: skip
async def test_it_goes_as_both_cells_have_it(one: Mtls, two: Mtls, ok: bool | None, words: str) -> None:
    first, *more = await steps(one, two)
    assert (first.ok, first.what) == (ok, words)
    assert [each.what for each in more] == ([] if (words[-10:] == "plain text" and ok is None) or one is Mtls.NONE
                                            else ["that of web holds until 2030-01-01T01:00:00Z"])  # fmt: skip


async def test_what_is_no_tcp_and_what_the_caller_encrypts_goes_by_no_tunnel() -> None:
    (found,) = await steps(Mtls.STRICT, Mtls.STRICT, protocol=Protocol.UDP)
    assert found.what == "it goes in plain text"
    first, *_ = await steps(Mtls.STRICT, Mtls.STRICT, port=61443)
    assert first.what == "the caller speaks TLS to port 61443, where Envoy ends it"


async def test_envoy_that_goes_by_older_rights_is_told() -> None:
    *_, last = await steps(Mtls.STRICT, Mtls.STRICT, called=Endpoint("one", "api", API.app, 0, API.address), late=True)
    assert (last.ok, last.what) == (False, "Envoy has not taken yet what may reach api through tunnels")
