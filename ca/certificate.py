"""How every certificate of cellnet is made: its validity and the fields that all three kinds share (RFC 5280).

Validity has two traps. A backdated start must shrink with the lifetime: a leaf of ten seconds that starts two hours ago is
past half its life when it is born, and would be renewed for ever. And nothing may outlive what vouches for it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ca.errors import CaRefused

# Of another host's clock; an hour is what a clock is off that is read as local time. Of a leaf of 24 hours a tenth is more
LARGEST_SKEW = timedelta(hours=2)
SKEW_PART = 10
LONGEST_COMMON_NAME = 64


@dataclass(frozen=True, slots=True, order=True)
class Validity:
    """Both ends inclusive, whole seconds, UTC."""

    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """That of `certificate`."""
        return cls(certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    def includes(self, now: datetime) -> bool:
        """Whether a verifier whose clock shows `now` accepts it."""
        return self.not_before <= now <= self.not_after

    def half(self) -> datetime:
        """When half of it is over."""
        return self.not_before + (self.not_after - self.not_before) / 2


def validity(*, now: datetime, lifetime: timedelta, within: Validity | None = None) -> Validity:
    """From a little before `now` for `lifetime`, but never outside `within`, the issuer's. `now` has a time zone.

    Backdated by a tenth of the lifetime, two hours at most, for clocks that lag. Raises CaRefused if nothing is left.
    """
    start = now.replace(microsecond=0)
    if within is not None and not within.includes(start):
        raise CaRefused(
            f"the issuer is valid from {within.not_before:%Y-%m-%d %H:%M:%S} to {within.not_after:%Y-%m-%d %H:%M:%S} "
            f"and it is {now:%Y-%m-%d %H:%M:%S}, all UTC",
            hint="check the clock, or renew the issuer",
        )
    end = start + lifetime
    if within is not None:
        end = min(end, within.not_after)
    end = end.replace(microsecond=0)
    if end <= start:
        raise CaRefused("the certificate would live less than a second", hint="ask for longer, or renew the issuer")
    begin = (start - min(LARGEST_SKEW, (end - start) / SKEW_PART)).replace(microsecond=0)
    return Validity(begin if within is None else max(begin, within.not_before), end)


def common_name(text: str) -> str:
    """`text`, or where it exceeds the 64 characters that X.509 allows, its start and a hash of it."""
    if len(text) <= LONGEST_COMMON_NAME:
        return text
    return f"{text[: LONGEST_COMMON_NAME - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def subject(*, organization: str, common: str, unit: str | None = None) -> x509.Name:
    """A name for people: nothing is ever decided by it."""
    parts = [(NameOID.ORGANIZATION_NAME, organization), (NameOID.ORGANIZATIONAL_UNIT_NAME, unit)]
    parts.append((NameOID.COMMON_NAME, common_name(common)))
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts if text is not None])


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """An authority signs certificates and revocation lists, a leaf signs handshakes; neither does anything else."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True)
class Signer:
    """The issuer's name and key (for a root, its own)."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey


def sign(
    signer: Signer,
    *,
    name: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid: Validity,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    """A certificate for `key` with a random serial, key identifiers and `extensions` (value, critical)."""
    builder = (
        x509.CertificateBuilder(subject_name=name, issuer_name=signer.name, public_key=key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid.not_before)
        .not_valid_after(valid.not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer.key, hashes.SHA256())
