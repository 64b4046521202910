"""A container that opens tunnels by itself, with its own key and HTTP/2 of its own, reaches what its app may reach and no more.

`web` may use port 8080 of `api`. Something listens wherever a forged stream could lead to.
"""

import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeVar

import pytest

from dataplane.state import INBOUND_PORT, OUTBOUND_PORT, Allow
from tests.testlib.attacks.tunnel_caller import Answer, Headers, TunnelCaller
from tests.testlib.certificates import identity
from tests.testlib.envoy import API, PORT, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp, dial, read_exactly
from tests.testlib.tunnels.pair import WEB_TAG, TunnelPair

Asked = TypeVar("Asked")
LOOPBACK_ADDRESS, OUTSIDE = IPv4Address("127.0.0.1"), IPv4Address("192.0.2.1")
REFUSED = {"", "400", "403"}
REACHED = Answer("200", b"hello")
CONNECT, GET, HTTPS, ROOT = (":method", "CONNECT"), (":method", "GET"), (":scheme", "https"), (":path", "/")
ALLOWED, DENIED, LOOPBACK = f"{API}:8080", f"{API}:9000", "127.0.0.1:9000"
TO_ALLOWED = (":authority", ALLOWED)
MASQUE = "/.well-known/masque/udp/127.0.0.1/9000/"

AUTHORITIES = (
    # other places
    DENIED, LOOPBACK, "127.0.0.1:8080", "localhost:9000", "0.0.0.0:9000", "[::1]:9000", f"{WEB}:8080", "api.test:8080",
    # other ports, and none
    str(API), f"{API}:", f"{API}:0", f"{API}:65536", f"{API}:{65536 + 8080}",
    f"{API}:99999999999999999999", f"{API}:808", f"{API}:80800",
    # other ways to write the port
    f"{API}:+8080", f"{API}:-8080", f"{API}:08080", f"{API}: 8080", f"{API}:0x1f90", f"{API}:8e3", f"{API}:8080.0",
    f"{API}:８０８０", f"{API}:http-alt",
    # other ways to write the address
    "010.255.1.3:8080", "10.255.001.003:8080", "012.0377.1.3:8080", "0x0aff0103:8080", "184484099:8080", "10.16711939:8080",
    f"[::ffff:{API}]:8080", f"[::ffff:{API}]:9000",
    f"{API}.:8080", "%31%30.255.1.3:8080", "10x255.1.3:8080", f"1{API}:8080", f"{API}0:8080",
    # more than an authority, or less
    f"user@{ALLOWED}", f"user:word@{ALLOWED}", f"{ALLOWED}@{LOOPBACK}", f"http://{ALLOWED}", f"https://{ALLOWED}/",
    f"//{ALLOWED}",
    f"{ALLOWED}/x", f"{ALLOWED}?x", f"{ALLOWED}#x", f"{ALLOWED},{LOOPBACK}", f"{ALLOWED};{LOOPBACK}", f"{ALLOWED}:9000",
    f"{API}%00:8080", "", "*", ":8080",
    # what surrounds it
    f"{ALLOWED}.", f"{ALLOWED} ", f" {ALLOWED}", f"{ALLOWED}\t", f"{ALLOWED}\0", f"{ALLOWED}\n{LOOPBACK}",
)  # fmt: skip

STREAMS = {
    "two authorities": (CONNECT, TO_ALLOWED, (":authority", LOOPBACK)),
    "two authorities, the other first": (CONNECT, (":authority", LOOPBACK), TO_ALLOWED),
    "no authority": (CONNECT,),
    "no authority but a host": (CONNECT, ("host", ALLOWED)),
    "two hosts": (CONNECT, ("host", ALLOWED), ("host", LOOPBACK)),
    "a host that is allowed": (CONNECT, (":authority", DENIED), ("host", ALLOWED)),
    "an authority after a header": (CONNECT, ("x", "y"), TO_ALLOWED),
    "a scheme and a path": (CONNECT, HTTPS, ROOT, TO_ALLOWED),
    "no method": (TO_ALLOWED,),
    "two methods": (CONNECT, GET, TO_ALLOWED),
    "a pseudo-header of nobody": (CONNECT, TO_ALLOWED, (":x", "y")),
    "a protocol alone": (CONNECT, (":protocol", "websocket"), TO_ALLOWED),
    "an empty protocol": (CONNECT, (":protocol", ""), TO_ALLOWED),
    "CONNECT-UDP": (CONNECT, (":protocol", "connect-udp"), HTTPS, (":path", MASQUE), TO_ALLOWED),
    "an upgrade of a request": (
        (":method", "GET"),
        HTTPS,
        ROOT,
        TO_ALLOWED,
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ),
    "an upgrade to CONNECT": (GET, HTTPS, ROOT, TO_ALLOWED, ("upgrade", "CONNECT")),
    "an upgrade of CONNECT": (CONNECT, TO_ALLOWED, ("upgrade", "websocket")),
    **{
        f"extended CONNECT of {protocol}": (CONNECT, (":protocol", protocol), HTTPS, ROOT, TO_ALLOWED)
        for protocol in ("websocket", "connect-tcp", "connect-ip", "bytestream")
    },
    **{
        f"method {method!r}": ((":method", method), HTTPS, ROOT, TO_ALLOWED)
        for method in ("GET", "POST", "OPTIONS", "TRACE", "HEAD", "connect", "Connect", "CONNECT ", "CONNECT-UDP", "PRI", "")
    },
}

# What Envoy or a server would believe of a proxy that it trusts
HEADERS = (
    ("host", LOOPBACK),
    ("forwarded", f"for={API};host={LOOPBACK}"),
    ("x-forwarded-for", str(API)),
    ("x-forwarded-host", LOOPBACK),
    ("x-forwarded-client-cert", "URI=spiffe://cell.internal/org/acme/space/shop/app/api"),
    ("x-envoy-original-dst-host", LOOPBACK),
    ("x-envoy-original-path", "/"),
    ("x-envoy-internal", "true"),
    ("x-envoy-external-address", str(API)),
    ("x-envoy-retry-on", "connect-failure"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-decorator-operation", "x"),
    ("cellnet.tied", "yes"),
    ("x_cellnet_port", "8080"),
    ("Cellnet.Port", "8080"),
    ("cellnet.port ", "8080"),
    ("connection", ":authority"),
)


@dataclass
class Scene:
    """The caller, and the apps that it may and may not reach."""

    caller: TunnelCaller
    allowed: EchoApp
    others: list[EchoApp]
    pair: TunnelPair

    def answers(self, asked: Mapping[Asked, Headers]) -> dict[Asked, Answer]:
        """To each of these streams. All at once: Envoy takes a second to close a tunnel in which it reads nonsense."""
        with ThreadPoolExecutor(max_workers=64) as pool:
            return dict(zip(asked, pool.map(lambda headers: self.caller.asks(*headers), asked.values()), strict=True))

    def reached(self) -> int:
        """How often the app was reached that may be reached; no other ever was."""
        assert [each.peers for each in self.others] == [[]] * len(self.others)
        assert set(self.allowed.peers) <= {str(WEB)}
        return len(self.allowed.peers)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    cell, pair = EnvoyCell(), EnvoyPair()
    apps = []
    try:
        cell.start()
        tunnels = TunnelPair(cell, pair)
        tunnels.allow(Allow(WEB_TAG, "tcp", 8080, 8080))
        allowed = EchoApp(pair.api.path)
        others = [EchoApp(pair.api.path, port=9000)]
        others += [EchoApp(pair.api.path, address=LOOPBACK_ADDRESS, port=port) for port in (8080, 9000)]
        apps = [allowed, *others]
        leaf = cell.ca.leaf(identity("acme/shop/web"))
        yield Scene(TunnelCaller(pair.web.path, cell.ca.root.bundle(), leaf=leaf), allowed, others, tunnels)
    finally:
        for each in apps:
            each.close()
        pair.close()
        cell.close()


def test_what_the_app_may_reach_is_reached_by_hand_too(scene: Scene) -> None:
    before = scene.reached()
    assert scene.caller.connects(ALLOWED) == REACHED
    assert scene.reached() == before + 1


def test_no_other_authority_leads_anywhere(scene: Scene) -> None:
    before = scene.reached()
    answers = scene.answers({authority: (CONNECT, (":authority", authority)) for authority in AUTHORITIES})
    assert {authority: each for authority, each in answers.items() if each.status not in REFUSED} == {}
    assert scene.reached() == before


def test_no_other_kind_of_stream_leads_anywhere(scene: Scene) -> None:
    before = scene.reached()
    answers = scene.answers(STREAMS)
    assert {kind: each for kind, each in answers.items() if each.status not in REFUSED} == {}
    assert scene.reached() == before


def test_no_header_of_a_caller_counts(scene: Scene) -> None:
    before = scene.reached()
    denied = scene.answers({header: (CONNECT, (":authority", DENIED), header) for header in HEADERS})
    assert {header: each for header, each in denied.items() if each.status not in REFUSED} == {}
    assert scene.reached() == before
    answers = scene.answers({header: (CONNECT, TO_ALLOWED, header) for header in HEADERS})
    assert scene.reached() == before + list(answers.values()).count(REACHED)


@pytest.mark.parametrize("port", [OUTBOUND_PORT, INBOUND_PORT, PORT])
def test_ports_of_envoy_are_reached_by_no_right(scene: Scene, port: int) -> None:
    scene.pair.allow(Allow(WEB_TAG, "tcp", 1, 65535))
    try:
        assert scene.caller.connects(f"{API}:{port}").status == "403"
        assert scene.caller.connects(f"{API}:{port + 1}").status == "503"
    finally:
        scene.pair.allow(Allow(WEB_TAG, "tcp", 8080, 8080))


def test_the_way_into_tunnels_leads_nowhere_else(scene: Scene) -> None:
    """Root inside may send any of its connections there, or dial it."""
    web, before = scene.pair.pair.web, scene.reached()
    web.run("ip", "route", "add", f"{OUTSIDE}/32", "dev", "eth0")
    to_envoy = ("-p", "tcp", "-d", str(OUTSIDE), "-j", "REDIRECT", "--to-ports", str(OUTBOUND_PORT))
    web.run("iptables-nft", "-t", "nat", "-A", "OUTPUT", *to_envoy)
    for address, port in ((LOOPBACK_ADDRESS, OUTBOUND_PORT), (OUTSIDE, 8080)):
        with dial(web.path, address=address, port=port) as connection:
            assert read_exactly(connection, 1) == b""
    assert scene.reached() == before


def test_envoy_has_nothing_in_a_container_but_the_ends_of_tunnels(scene: Scene) -> None:
    """Its admin socket is a file of the host, in a folder of Envoy's user."""
    web = scene.pair.pair.web
    ports = {line.split()[3] for line in web.run("ss", "-Hltn").splitlines()}
    assert ports == {f"{LOOPBACK_ADDRESS}:{OUTBOUND_PORT}", f"{WEB}:{INBOUND_PORT}"}
    assert web.run("ss", "-Hlxu").strip() == ""
    admin = scene.pair.cell.envoy.settings.admin
    assert [stat.S_IMODE(path.stat().st_mode) for path in (admin, admin.parent)] == [0o600, 0o700]
