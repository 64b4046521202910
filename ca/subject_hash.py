"""The name under which OpenSSL finds a root in a folder (`-CApath`): `<hash of the subject>.0`, the hash in 8 hex digits.

OpenSSL does not hash a subject as it stands in the certificate, but a canonical form, in which two spellings of a name are one:
strings are UTF-8, in lower case as far as they are ASCII, without spaces at the ends and with one where there were several. The
form has no header of its own: it is the subject's sets, one after the other.
"""

import hashlib
from collections.abc import Iterator

from cryptography import x509

SEQUENCE, SET, UTF8 = 0x30, 0x31, 12
TEXTS = {12: "utf-8", 19: "latin-1", 20: "latin-1", 22: "latin-1", 28: "utf-32-be", 30: "utf-16-be"}
"""ASN.1's kinds of text (UTF8, Printable, T61, IA5, Universal, BMP), and how each writes letters."""
SPACES = b"\t\n\v\f\r "


def subject_hash(certificate: x509.Certificate) -> str:
    """What `openssl x509 -subject_hash` prints."""
    ((_, subject),) = _elements(certificate.subject.public_bytes())
    sets = (sorted(_canonical(entry) for _, entry in _elements(each)) for _, each in _elements(subject))
    canonical = b"".join(_element(SET, b"".join(entries)) for entries in sets)
    # a name and no proof: OpenSSL takes SHA-1, and of that the first four bytes, the lowest first
    return f"{int.from_bytes(hashlib.sha1(canonical).digest()[:4], 'little'):08x}"  # noqa: S324


def _canonical(entry: bytes) -> bytes:
    """One attribute of the subject: its kind (an object identifier), and its value in the canonical form."""
    (identifier, kind), (tag, value) = _elements(entry)
    if tag in TEXTS:
        tag, value = UTF8, _folded(value.decode(TEXTS[tag]).encode())
    return _element(SEQUENCE, _element(identifier, kind) + _element(tag, value))


def _folded(text: bytes) -> bytes:
    """Of UTF-8 only what is ASCII changes."""
    words = text.translate(bytes.maketrans(SPACES, b" " * len(SPACES))).split(b" ")
    return b" ".join(word.lower() for word in words if word)


def _elements(text: bytes) -> Iterator[tuple[int, bytes]]:
    """The tags and contents of the DER elements in `text`, one after the other."""
    at = 0
    while at < len(text):
        tag, length, start = text[at], text[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(text[at + 2 : start])
        yield tag, text[start : start + length]
        at = start + length


def _element(tag: int, content: bytes) -> bytes:
    """One DER element."""
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content
