"""PEM in and out. Every certificate or key that cellnet reads comes through here, so that bad bytes get one clear error."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ca.errors import CaRefused


def certificates(text: bytes, *, where: str) -> tuple[x509.Certificate, ...]:
    """All certificates of `text` in order, at least one. Raises CaRefused naming `where`."""
    try:
        return tuple(x509.load_pem_x509_certificates(text))
    except ValueError as error:
        raise CaRefused(f"{where} holds no readable certificate: {error}", hint="it must be PEM") from error


def private_key(text: bytes, *, where: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in `text`, without a passphrase. Raises CaRefused naming `where`; no key byte gets into the message."""
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:
        hint = "it must be PEM without a passphrase"
        raise CaRefused(f"{where} holds no readable private key", hint=hint) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CaRefused(f"{where} holds a key that is not ECDSA P-256", hint="cellnet signs with P-256 only")
    return key


def chain_bytes(chain: tuple[x509.Certificate, ...]) -> bytes:
    """PEM of each, in order."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8 PEM, not encrypted: where it is written is what protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether `certificate` was made for `key`."""
    encoding, form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(encoding, form) == key.public_key().public_bytes(encoding, form)
