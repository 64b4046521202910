"""A private key under a passphrase: PKCS #8, encrypted as RFC 8018 (PBES2) has it, which OpenSSL reads too.

cryptography writes such files with 2,048 rounds of PBKDF2, which a graphics card tries millions of a second. So the file is
put together here, with scrypt (RFC 7914): 16 MB and a tenth of a second for each attempt. More memory would be better, but is
beyond what OpenSSL takes by default.
"""

import base64
import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

COST, BLOCK, PARALLEL = 1 << 14, 8, 5
SEQUENCE, INTEGER, OCTETS, OBJECT = 0x30, 0x02, 0x04, 0x06
PBES2 = bytes.fromhex("2a864886f70d01050d")  # 1.2.840.113549.1.5.13
SCRYPT = bytes.fromhex("2b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
AES_256_CBC = bytes.fromhex("60864801650304012a")  # 2.16.840.1.101.3.4.1.42


def encrypted(key_info: bytes, *, passphrase: bytes) -> bytes:
    """`key_info` (PKCS #8, DER) as PEM that only `passphrase` opens."""
    salt, start = os.urandom(16), os.urandom(16)
    key = Scrypt(salt=salt, length=32, n=COST, r=BLOCK, p=PARALLEL).derive(passphrase)
    padding, cipher = PKCS7(128).padder(), Cipher(algorithms.AES256(key), modes.CBC(start)).encryptor()
    content = cipher.update(padding.update(key_info) + padding.finalize()) + cipher.finalize()
    derivation = _sequence(_der(OCTETS, salt), *map(_integer, (COST, BLOCK, PARALLEL)))
    scheme = _sequence(_sequence(_der(OBJECT, SCRYPT), derivation), _sequence(_der(OBJECT, AES_256_CBC), _der(OCTETS, start)))
    return _pem(_sequence(_sequence(_der(OBJECT, PBES2), scheme), _der(OCTETS, content)))


def is_encrypted(pem: bytes) -> bool:
    """Whether a key in PEM needs a passphrase, whichever program has written it."""
    return b"ENCRYPTED" in pem


def _sequence(*parts: bytes) -> bytes:
    return _der(SEQUENCE, b"".join(parts))


def _integer(number: int) -> bytes:
    return _der(INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    long = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, *([size] if size < 0x80 else [0x80 + len(long), *long])]) + content


def _pem(content: bytes) -> bytes:
    text = base64.b64encode(content)
    lines = (text[start : start + 64] for start in range(0, len(text), 64))
    label = b"ENCRYPTED PRIVATE KEY-----\n"
    return b"-----BEGIN " + label + b"".join(line + b"\n" for line in lines) + b"-----END " + label
