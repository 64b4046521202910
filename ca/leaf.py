"""A workload's certificate: what Envoy presents on the TLS port, and what a container may present as a client."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.authority import Authority, new_key
from ca.certificate import key_usage, sign, subject, validity
from ca.names import Identity
from ca.pem import chain_bytes, key_bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """A new leaf: `chain` is leaf then intermediate, `key` its private key, both PEM. The key is never printed."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


def issue_leaf(issuer: Authority, *, identity: Identity, now: datetime, lifetime: timedelta) -> Issued:
    """A leaf for `identity` with a key of its own. It never outlives `issuer`; raises CaRefused if that has expired."""
    key = new_key()
    certificate = sign(
        issuer.signer(),
        # Each part is a label of 63 characters at most, so none exceeds the 64 that X.509 allows; a whole DNS name would.
        name=subject(organization=identity.org, unit=identity.space, common=identity.app),
        key=key.public_key(),
        valid=validity(now=now, lifetime=lifetime, within=issuer.valid),
        extensions=(
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (key_usage(authority=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (identity.alternative_names(), False),
        ),
    )
    return Issued(chain_bytes((certificate, *issuer.below_root())), key_bytes(key))
