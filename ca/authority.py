"""What signs: a root, made once, and one intermediate per cell, made by the root. Design: root -> cell -> leaf, never deeper.

The intermediate carries no name constraint: SPIFFE ids would need one of type URI, and rustls and Python's cryptography
refuse every chain that has one (OpenSSL, GnuTLS and Envoy take it). What keeps a cell to its trust domain is that the root
and the intermediate name theirs, that `verify` compares, and that policies are checked against whole SPIFFE ids.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ca.certificate import Signer, Validity, key_usage, sign, subject, validity
from ca.names import check_trust_domain
from ca.pem import chain_bytes, fingerprint


@dataclass(frozen=True, slots=True, repr=False)
class AuthorityChain:
    """The certificate of one that signs, without its key. `chain` starts with its own and ends with the root's."""

    chain: tuple[x509.Certificate, ...]

    @property
    def certificate(self) -> x509.Certificate:
        """Its own."""
        return self.chain[0]

    @property
    def valid(self) -> Validity:
        """When it and everything above it is valid."""
        spans = [Validity.of(certificate) for certificate in self.chain]
        return Validity(max(span.not_before for span in spans), min(span.not_after for span in spans))

    def below_root(self) -> tuple[x509.Certificate, ...]:
        """What a peer that trusts the root needs besides a leaf: the chain without the root."""
        return self.chain[:-1]

    def bundle(self) -> bytes:
        """PEM of the root."""
        return chain_bytes(self.chain[-1:])

    def fingerprint(self) -> str:
        """SHA-256 of its certificate, 64 hex digits."""
        return fingerprint(self.certificate)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.certificate.subject.rfc4514_string()}, {self.fingerprint()[:16]})"


@dataclass(frozen=True, slots=True, repr=False)
class Authority(AuthorityChain):
    """A certificate that may sign, with its key."""

    key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    def signer(self) -> Signer:
        """What `sign` needs."""
        return Signer(self.certificate.subject, self.key)


def make_root(
    *, trust_domain: str, now: datetime, lifetime: timedelta, key: ec.EllipticCurvePrivateKey | None = None
) -> Authority:
    """A self-signed root, for `key` or for a new one. Raises CaRefused for a bad trust domain."""
    check_trust_domain(trust_domain)
    key = key or new_key()
    name = subject(organization="cellnet", common=f"root {trust_domain}")
    certificate = sign(
        Signer(name, key),
        name=name,
        key=key.public_key(),
        valid=validity(now=now, lifetime=lifetime),
        extensions=_of_an_authority(trust_domain, below=1),
    )
    return Authority((certificate,), key)


def issue_cell(root: Authority, *, cell: str, trust_domain: str, now: datetime, lifetime: timedelta) -> Authority:
    """One cell's intermediate, with a new key: it signs leaves and nothing else, and never outlives the root."""
    check_trust_domain(trust_domain)
    key = new_key()
    certificate = sign(
        root.signer(),
        name=subject(organization="cellnet", common=f"cell {cell}"),
        key=key.public_key(),
        valid=validity(now=now, lifetime=lifetime, within=root.valid),
        extensions=_of_an_authority(trust_domain, below=0),
    )
    return Authority((certificate, *root.chain), key)


def new_key() -> ec.EllipticCurvePrivateKey:
    """ECDSA P-256, from the kernel's random numbers."""
    return ec.generate_private_key(ec.SECP256R1())


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether it is a CA's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _of_an_authority(trust_domain: str, *, below: int) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    return (
        (x509.BasicConstraints(ca=True, path_length=below), True),
        (key_usage(authority=True), True),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), False),
    )
