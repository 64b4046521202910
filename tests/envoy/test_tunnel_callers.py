"""Whose certificate counts in a tunnel: one of this CA, with one SPIFFE id and the address that the tunnel comes from.

`web` may use port 8080 of `api`, every app of `acme/shop` 8081. All callers come from the address of `web`, and
headers of theirs say that the certificate carries it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography.x509 import DNSName, IPAddress, UniformResourceIdentifier

from ca.authority import Authority
from ca.leaf import Issued
from ca.pem import certificates, private_key
from dataplane.state import Allow
from tests.testlib.attacks.tunnel_caller import Answer, TunnelCaller
from tests.testlib.certificates import TODAY, Ca, identity, make_ca, odd_leaf
from tests.testlib.envoy import API, WEB, EnvoyCell, EnvoyPair
from tests.testlib.envoy_traffic import EchoApp
from tests.testlib.tunnels.pair import SPACE, WEB_TAG, TunnelPair

OWN, OTHER = str(WEB), "10.255.1.9"
HERE, ID = IPAddress(WEB), UniformResourceIdentifier(f"{SPACE}web")
DB = UniformResourceIdentifier(f"{SPACE}db")
# The names under which Envoy has what it goes by, none of them a header's
CLAIMS = (("cellnet.proved", OWN), ("cellnet.from", OWN), ("cellnet.tied", "yes"))
BOTH, SCOPE, NONE = {8080, 8081}, {8081}, set[int]()


def uri(text: str) -> UniformResourceIdentifier:
    return UniformResourceIdentifier(text)


def signed_by_an_app(ca: Ca) -> Issued:
    """What a container can make with its own key: a certificate of any app, below its own."""
    own = ca.leaf(identity("acme/shop/db"))
    return odd_leaf(Authority(certificates(own.chain, where="it"), private_key(own.key, where="it")), ID, HERE)


LEAVES: dict[str, tuple[Callable[[Ca], Issued | None], set[int]]] = {
    "its own": (lambda ca: ca.leaf(identity()), BOTH),
    "another app's of the space, issued for this address": (lambda ca: ca.leaf(identity("acme/shop/db")), SCOPE),
    "none": (lambda ca: None, NONE),
    "of another CA": (lambda ca: make_ca().leaf(identity()), NONE),
    "expired": (lambda ca: ca.leaf(identity(), now=TODAY - timedelta(days=2), lifetime=timedelta(days=1)), NONE),
    "signed with the key of an app": (signed_by_an_app, NONE),
    "its own, of another address": (lambda ca: ca.leaf(identity(address=OTHER)), NONE),
    "another app's, of another address": (lambda ca: ca.leaf(identity("acme/shop/db", address=OTHER)), NONE),
    "without an address": (lambda ca: odd_leaf(ca.cell, ID), NONE),
    "with two addresses": (lambda ca: odd_leaf(ca.cell, ID, HERE, IPAddress(ip_address(OTHER))), NONE),
    "with two addresses, the other first": (lambda ca: odd_leaf(ca.cell, ID, IPAddress(ip_address(OTHER)), HERE), NONE),
    "with the address as one of IPv6": (lambda ca: odd_leaf(ca.cell, ID, IPAddress(ip_address(f"::ffff:{WEB}"))), NONE),
    "with the address as a name": (lambda ca: odd_leaf(ca.cell, ID, DNSName(OWN)), NONE),
    "without an id": (lambda ca: odd_leaf(ca.cell, HERE), NONE),
    "with the id as a name": (lambda ca: odd_leaf(ca.cell, DNSName(f"{SPACE}web"), HERE), NONE),
    "with the id as its subject": (lambda ca: odd_leaf(ca.cell, HERE, common=f"{SPACE}web"), NONE),
    "with two ids, the allowed one last": (lambda ca: odd_leaf(ca.cell, uri("spiffe://x"), ID, HERE), NONE),
    "with an id that begins like the allowed one": (lambda ca: ca.leaf(identity("acme/shop/web2")), SCOPE),
    "with an id below the allowed one": (lambda ca: odd_leaf(ca.cell, uri(f"{SPACE}web/x"), HERE), SCOPE),
    "of a space that begins like the allowed one": (lambda ca: ca.leaf(identity("acme/shop2/web")), NONE),
    "of an org that begins like the allowed one": (lambda ca: ca.leaf(identity("acme2/shop/web")), NONE),
    "of another trust domain": (lambda ca: odd_leaf(ca.cell, uri(ID.value.replace("cell", "other")), HERE), NONE),
    "with the id in capitals": (lambda ca: odd_leaf(ca.cell, uri(ID.value.upper()), HERE), NONE),
}


@dataclass
class Scene:
    cell: EnvoyCell
    pair: EnvoyPair
    apps: list[EchoApp]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    cell, pair = EnvoyCell(), EnvoyPair()
    apps = []
    try:
        cell.start()
        TunnelPair(cell, pair).allow(Allow(WEB_TAG, "tcp", 8080, 8080), Allow(0, "tcp", 8081, 8081, "acme/shop/*"))
        apps = [EchoApp(pair.api.path, port=port) for port in sorted(BOTH)]
        yield Scene(cell, pair, apps)
    finally:
        for each in apps:
            each.close()
        pair.close()
        cell.close()


@pytest.mark.parametrize(("leaf", "allowed"), LEAVES.values(), ids=LEAVES)
def test_a_caller_is_who_its_certificate_says_at_the_address_that_it_says(
    scene: Scene, leaf: Callable[[Ca], Issued | None], allowed: set[int]
) -> None:
    before = [len(app.peers) for app in scene.apps]
    caller = TunnelCaller(scene.pair.web.path, scene.cell.ca.root.bundle(), leaf=leaf(scene.cell.ca))
    answers = {app.port: caller.connects(f"{API}:{app.port}", *CLAIMS) for app in scene.apps}
    assert {port for port, answer in answers.items() if answer == Answer("200", b"hello")} == allowed
    assert {app.port for app, count in zip(scene.apps, before, strict=True) if len(app.peers) > count} == allowed
