"""A leaf is issued for an attachment and judged against it again."""

import os
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address

import pytest

from agent.errors import HostRefused, InvalidInput
from agent.identity.leaf import issue, unfit, validity
from ca.names import Identity
from dataplane.state import Leaf
from tests.testlib.certificates import TODAY, Ca, client_context, handshake, identity, make_ca, server_context

DAY = timedelta(days=1)
WEB = identity(names=("web.apps.internal",))


@pytest.fixture(scope="module")
def ours() -> Ca:
    return make_ca()


@pytest.fixture(scope="module")
def leaf(ours: Ca) -> Leaf:
    return issue(ours.cell, identity=WEB, now=TODAY, lifetime=DAY)


def judged(leaf: Leaf, ours: Ca, of: Identity = WEB, *, days: float = 0) -> str | None:
    return unfit(leaf, identity=of, bundle=ours.root.bundle(), now=TODAY + days * DAY)


def test_a_leaf_serves_while_nothing_has_changed(leaf: Leaf, ours: Ca) -> None:
    assert judged(leaf, ours) is None
    assert judged(leaf, ours, days=0.99) is None


def test_an_issued_leaf_terminates_tls(ours: Ca) -> None:
    issued = ours.leaf(WEB)
    client = client_context(ours.root.bundle())
    assert handshake(server_context(issued), client, dialled="web.apps.internal") == b"hello"


@pytest.mark.parametrize(
    "changed",
    [
        replace(WEB, address=IPv4Address("10.255.1.3")),
        replace(WEB, app="api"),
        replace(WEB, org="other"),
        replace(WEB, dns_names=()),
        replace(WEB, dns_names=("web.apps.internal", "shop.apps.internal")),
    ],
)
def test_a_leaf_for_something_else_must_go(leaf: Leaf, ours: Ca, changed: Identity) -> None:
    found = judged(leaf, ours, changed)
    assert found is not None
    assert "it is for spiffe://cell.internal/org/acme/space/shop/app/web at 10.255.1.2" in found


def test_an_expired_a_foreign_and_a_damaged_leaf_must_go(leaf: Leaf, ours: Ca) -> None:
    other = issue(ours.cell, identity=WEB, now=TODAY, lifetime=DAY)
    assert "expired" in str(judged(leaf, ours, days=2))
    assert "no root" in str(judged(leaf, make_ca()))
    assert "no readable certificate" in str(judged(replace(leaf, chain=b"?"), ours))
    assert "no readable private key" in str(judged(replace(leaf, key=leaf.key[:40]), ours))
    assert judged(replace(leaf, key=other.key), ours) == "the key is not the certificate's"


def test_validity_is_what_renewal_goes_by(leaf: Leaf) -> None:
    assert validity(leaf).not_after == TODAY.replace(microsecond=0) + DAY
    with pytest.raises(InvalidInput):
        validity(Leaf(chain=os.urandom(64), key=b""))


def test_an_expired_authority_is_reported_in_the_agents_words(ours: Ca) -> None:
    with pytest.raises(HostRefused, match="the issuer is valid from") as refusal:
        issue(ours.cell, identity=WEB, now=TODAY + 91 * DAY, lifetime=DAY)
    assert refusal.value.hint


def test_whatever_a_library_raises_when_a_leaf_is_issued_is_refused(ours: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise NotImplementedError("this curve")

    monkeypatch.setattr("cryptography.x509.CertificateBuilder.sign", fails)
    with pytest.raises(HostRefused, match="this curve"):
        issue(ours.cell, identity=WEB, now=TODAY, lifetime=DAY)
