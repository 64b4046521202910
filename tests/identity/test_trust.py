"""What to trust of a cell's own root and the store's: one bundle for the same roots, and nothing that is no root."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from agent.errors import InvalidInput
from agent.identity.trust import MOST, checked, combined
from ca import certificate
from ca.authority import Authority, issue_cell, make_root
from ca.pem import certificates, chain_bytes, key_bytes

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DOMAIN = "cell.internal"


def root(domain: str = DOMAIN, *, days: int = 99) -> Authority:
    return make_root(trust_domain=domain, now=NOW, lifetime=days * DAY)


def signed_by_itself() -> bytes:
    """A certificate of our trust domain that is no CA's."""
    key = make_root(trust_domain=DOMAIN, now=NOW, lifetime=DAY).key
    name = certificate.subject(organization="other", common="alone")
    own = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}")])
    made = certificate.sign(
        certificate.Signer(name, key), name=name, key=key.public_key(),
        valid=certificate.validity(now=NOW, lifetime=99 * DAY), extensions=[(own, False)],
    )  # fmt: skip
    return chain_bytes((made,))


OWN, OTHER, STRANGER = root(), root(), root("other.example")
CELL = issue_cell(OWN, cell="one", trust_domain=DOMAIN, now=NOW, lifetime=DAY)
LEAF, ALONE = chain_bytes((CELL.certificate,)), signed_by_itself()


def both(first: bytes, shared: bytes) -> bytes:
    return combined(first, shared, trust_domain=DOMAIN).bundle


def test_without_a_store_a_cell_trusts_its_own_root() -> None:
    assert both(OWN.bundle(), b"") == OWN.bundle()


def test_the_same_roots_are_the_same_bytes_on_every_cell() -> None:
    shared = OWN.bundle() + OTHER.bundle() + OWN.bundle()
    one, two = both(OWN.bundle(), shared), both(OTHER.bundle(), OTHER.bundle() + OWN.bundle())
    assert one == two
    assert set(certificates(one, where="")) == {OWN.certificate, OTHER.certificate}
    assert one.count(b"BEGIN") == 2


@pytest.mark.parametrize(
    "text", [b"rubbish", STRANGER.bundle(), LEAF, ALONE, OTHER.bundle()[:300] + b"\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_root_of_ours_is_left_out_alone_and_reported(text: bytes) -> None:
    found = combined(OWN.bundle(), OTHER.bundle() + text, trust_domain=DOMAIN)
    assert found.bundle == both(OWN.bundle(), OTHER.bundle())
    assert len(found.left_out) == (0 if text == b"rubbish" else 1)
    assert not found.shares_own
    assert combined(OWN.bundle(), text, trust_domain=DOMAIN).left_out


def test_a_flood_of_roots_costs_the_late_ones_only_never_the_own() -> None:
    flood = b"".join(root(days=days).bundle() for days in range(1, MOST + 3))
    found = combined(OWN.bundle(), flood, trust_domain=DOMAIN)
    assert found.bundle.count(b"BEGIN") == MOST + 1
    assert OWN.certificate in certificates(found.bundle, where="")
    assert found.left_out


def test_what_is_published_is_put_in_order() -> None:
    shuffled = checked(OTHER.bundle() + OWN.bundle() + OTHER.bundle(), trust_domain=DOMAIN, now=NOW)
    assert shuffled == checked(OWN.bundle() + OTHER.bundle(), trust_domain=DOMAIN, now=NOW)
    assert combined(OWN.bundle(), shuffled, trust_domain=DOMAIN).shares_own


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "these are 0 roots"),
        (b"rubbish", "no readable certificate"),
        (OWN.bundle() + STRANGER.bundle(), "is of other.example, not of cell.internal"),
        (OWN.bundle() + LEAF, "is not a root: another has issued it"),
        (OWN.bundle() + ALONE, "is not a CA's certificate"),
        (OWN.bundle() + key_bytes(OWN.key), "holds a private key"),
        (root(days=1).bundle(), "is not valid now"),
    ],
)
def test_what_is_no_valid_root_is_refused_as_a_whole_with_a_hint(text: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refusal:
        checked(text, trust_domain=DOMAIN, now=NOW + 2 * DAY)
    assert refusal.value.hint
