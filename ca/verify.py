"""Whether a chain leads to a trusted root, and the identity that it proves. TLS peers decide alike."""

from datetime import datetime

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ca.certificate import Validity
from ca.errors import CaRefused
from ca.names import Identity, trust_domain_of
from ca.pem import certificates


def verify(chain_pem: bytes, bundle_pem: bytes, *, now: datetime) -> Identity:
    """The identity of the leaf (first in `chain_pem`, PEM), if a root of `bundle_pem` vouches for it at `now`.

    Raises CaRefused: unreadable, expired or not yet valid, no path to a root, no single identity, another trust domain.
    """
    chain = certificates(chain_pem, where="the chain")
    roots = certificates(bundle_pem, where="the trust bundle")
    for certificate in chain:
        _check_dates(certificate, now=now)
    root = _root_above(chain, roots, now=now)
    identity = Identity.of(chain[0])
    own = trust_domain_of(root)
    if own is not None and own != identity.trust_domain:
        raise CaRefused(f"{identity.spiffe_id} is not of {own}, the trust domain of the root that vouches for it")
    return identity


def _root_above(chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...], *, now: datetime) -> x509.Certificate:
    verifier = PolicyBuilder().store(Store(list(roots))).time(now).build_client_verifier()
    try:
        return verifier.verify(chain[0], list(chain[1:])).chain[-1]
    except VerificationError as error:
        name = chain[0].subject.rfc4514_string()
        raise CaRefused(f"no root of the trust bundle vouches for {name}: {error}") from error


def _check_dates(certificate: x509.Certificate, *, now: datetime) -> None:
    name, valid = certificate.subject.rfc4514_string(), Validity.of(certificate)
    if now > valid.not_after:
        raise CaRefused(f"the certificate {name} expired at {valid.not_after:%Y-%m-%d %H:%M:%S} UTC")
    if now < valid.not_before:
        raise CaRefused(f"the certificate {name} is not valid before {valid.not_before:%Y-%m-%d %H:%M:%S} UTC")
