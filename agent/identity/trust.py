"""Whom everything on this cell trusts: its own root, and those that the operator has put into the store for all cells.

Pure. What comes from the store is judged here once more: whoever may write there must not be able to vouch for another trust
domain by it, and one record that makes no sense must not cost the others.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from agent.errors import InvalidInput
from ca.authority import may_sign
from ca.certificate import Validity
from ca.errors import CaRefused
from ca.names import trust_domain_of
from ca.pem import certificates, chain_bytes

BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
MOST = 64  # roots of one bundle: each is in every TLS context of Envoy
HINT = "give roots as 'cellnet ca init' makes them, in PEM"


@dataclass(frozen=True, slots=True)
class Trust:
    """`bundle` is PEM, the same for the same roots; `left_out` says what of the store is not in it and why."""

    bundle: bytes
    left_out: tuple[str, ...] = ()
    shares_own: bool = True


def combined(own: bytes, shared: bytes, *, trust_domain: str) -> Trust:
    """This cell's own root and the store's (PEM, both)."""
    mine = certificates(own, where="this cell's root")
    theirs: list[x509.Certificate] = []
    wrong: list[str] = []
    for number, block in enumerate(_blocks(shared), start=1):
        try:
            theirs.append(_root(block, trust_domain=trust_domain))
        except CaRefused as error:
            wrong.append(f"number {number}: {error.what}")
    if len(theirs) > MOST:
        wrong.append(f"all after the first {MOST}: that is as many as can be")
    known = theirs[:MOST]
    return Trust(_sorted([*mine, *known]), tuple(wrong), shares_own=set(mine) <= set(known))


def checked(text: bytes, *, trust_domain: str, now: datetime) -> bytes:
    """`text` as it may be put into the store. Raises InvalidInput for anything but roots of `trust_domain` that are valid."""
    found: list[x509.Certificate] = []
    for block in _blocks(text):
        if b"PRIVATE KEY" in block:
            raise InvalidInput("this holds a private key", hint="give the certificate alone: root.crt, never root.key")
        try:
            found.append(_root(block, trust_domain=trust_domain))
        except CaRefused as error:
            raise InvalidInput(error.what, hint=HINT) from error
        if not Validity.of(found[-1]).includes(now):
            raise InvalidInput(f"{name(found[-1])} is not valid now", hint="look at its dates, and at the clock")
    if not 0 < len(set(found)) <= MOST:
        raise InvalidInput(f"these are {len(set(found))} roots, and 1 to {MOST} can be", hint=HINT)
    return _sorted(found)


def added(given: bytes, *, to: bytes, trust_domain: str) -> bytes:
    """`given`, as `checked` returns it, and what is good of that which the store has. Raises InvalidInput for too many."""
    found = combined(given, to, trust_domain=trust_domain).bundle
    if len(certificates(found, where="the bundle")) > MOST:
        raise InvalidInput(
            f"there would be more than {MOST} roots", hint="'cellnet ca publish FILE' replaces those that are there"
        )
    return found


def name(certificate: x509.Certificate) -> str:
    """For people: the subject, and enough of the fingerprint to tell two of the same subject apart."""
    return f"{certificate.subject.rfc4514_string()} ({fingerprint(certificate)[:16]})"


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, 64 hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _blocks(text: bytes) -> list[bytes]:
    found = [match[0] for match in BLOCK.finditer(text)]
    return found if found or not text.strip() else [text]


def _root(block: bytes, *, trust_domain: str) -> x509.Certificate:
    found = certificates(block, where="it")[0]
    if not may_sign(found):
        raise CaRefused(f"{name(found)} is not a CA's certificate")
    try:
        found.verify_directly_issued_by(found)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CaRefused(f"{name(found)} is not a root: another has issued it") from error
    if trust_domain_of(found) != trust_domain:
        raise CaRefused(f"{name(found)} is of {trust_domain_of(found) or 'no trust domain'}, not of {trust_domain}")
    return found


def _sorted(found: Iterable[x509.Certificate]) -> bytes:
    return chain_bytes(tuple(sorted(set(found), key=fingerprint)))
