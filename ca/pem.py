"""PEM in and out. Every certificate or key that cellnet reads comes through here, so that bad bytes get one clear error."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ca.errors import CaRefused
from ca.passphrase import encrypted, is_encrypted

LOCKED = "give its passphrase: --passphrase-file FILE, or run this on a terminal"


def certificates(text: bytes, *, where: str) -> tuple[x509.Certificate, ...]:
    """All certificates of `text` in order, at least one. Raises CaRefused naming `where`."""
    try:
        return tuple(x509.load_pem_x509_certificates(text))
    except ValueError as error:
        raise CaRefused(f"{where} holds no readable certificate: {error}", hint="it must be PEM") from error


def private_key(text: bytes, *, where: str, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in `text`. Raises CaRefused naming `where`; no key byte gets into the message.

    A `passphrase` is not looked at where the key has none.
    """
    locked = is_encrypted(text)
    if locked and passphrase is None:
        raise CaRefused(f"{where} is encrypted", hint=LOCKED)
    try:
        key = load_pem_private_key(text, password=passphrase if locked else None)
    except (ValueError, TypeError) as error:
        if locked:
            raise CaRefused(f"the passphrase does not open {where}", hint="it may be that of another root's key") from error
        raise CaRefused(f"{where} holds no readable private key", hint="it must be PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CaRefused(f"{where} holds a key that is not ECDSA P-256", hint="cellnet signs with P-256 only")
    return key


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, 64 hex digits."""
    return certificate.fingerprint(SHA256()).hex()


def chain_bytes(chain: tuple[x509.Certificate, ...]) -> bytes:
    """PEM of each, in order."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def key_bytes(key: ec.EllipticCurvePrivateKey, *, passphrase: bytes | None = None) -> bytes:
    """PKCS #8 PEM. Without a `passphrase`, where it is written is what protects it."""
    if passphrase is not None:
        return encrypted(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), passphrase=passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether `certificate` was made for `key`."""
    encoding, form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(encoding, form) == key.public_key().public_bytes(encoding, form)
