"""Which roots everything on this cell trusts: its own, and those that the operator has put into the store for all cells.

What comes from the store is checked here once more: a right to write there must be none to vouch for another trust domain, and
one record that makes no sense must not cost the others.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from agent import log
from agent.complaint import Complaints
from agent.errors import RAISED, InvalidInput
from agent.identity.issuer import Issuer
from agent.identity.keyring import Keyring
from agent.model.status import Part, Problem
from ca.authority import may_sign
from ca.certificate import Validity
from ca.errors import CaRefused
from ca.names import trust_domain_of
from ca.pem import certificates, chain_bytes, fingerprint

BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
MOST = 64  # roots of one bundle: each is in every TLS context of Envoy
HINT = "give roots as 'cellnet ca init' makes them, in PEM"


@dataclass(frozen=True, slots=True)
class Trust:
    """`bundle` is PEM, the same for the same roots; `roots` their fingerprints; `left_out` are those of the store that are
    not in it, with reasons.
    """

    bundle: bytes
    roots: frozenset[str]
    left_out: tuple[str, ...] = ()
    shares_own: bool = True


class CellTrust(Part):
    """What this cell trusts by now: written to the keyring for its apps, and given to Envoy with the loop's next turn."""

    def __init__(self, issuer: Issuer, keyring: Keyring, *, trust_domain: str) -> None:
        self._issuer = issuer
        self._keyring = keyring
        self._trust_domain = trust_domain
        self._shared, self._has_peers = b"", False
        self._trust = self._combined()
        self._is_open = False
        self._unwritten: str | None = None  # why apps cannot read the bundle yet
        self._written = frozenset[str]()  # what they can read
        self._left_out = Complaints(log.get("identity"), failed="root_left_out")

    @property
    def bundle(self) -> bytes:
        """PEM of all roots that everything here trusts."""
        return self._trust.bundle

    @property
    def roots(self) -> frozenset[str]:
        """The fingerprints of those that are trusted and that apps can read."""
        return self._trust.roots & self._written

    @property
    def own_root(self) -> bytes:
        """PEM of the root that vouches for this cell."""
        return self._issuer.root

    def problems(self) -> Iterator[Problem]:
        """Roots that are not trusted here, and that this cell's own is not trusted elsewhere."""
        if self._unwritten is not None:
            what = f"{self._keyring.trust.path} is not what it should be: {self._unwritten}"
            yield Problem("identity", what, "it is tried again by itself")
        for why in self._trust.left_out:
            what = f"a root in the store's trust bundle is left out, {why}"
            yield Problem("identity", what, "'cellnet ca publish' replaces them")
        has_own_root = self._issuer.authorities.root is not None
        if not self._trust.shares_own and (self._shared or (self._has_peers and has_own_root)):
            yield Problem(
                "identity",
                "other cells do not trust this cell: its root is not in the store's trust bundle",
                "have the common root issue its certificate ('cellnet ca issue-cell'), or run 'cellnet ca publish --add' here",
            )

    def open(self) -> None:
        """Write the bundle for apps, and from now on whatever it becomes. Raises HostRefused."""
        self._is_open = True
        self._put()

    def update(self, shared: bytes, *, has_peers: bool) -> None:
        """Trust also the roots that the store has (PEM). `has_peers`: whether there are other cells."""
        self._has_peers = has_peers
        if shared != self._shared:
            self._shared = shared
            self.refresh()

    def refresh(self) -> None:
        """Combine the roots anew, after one of them has changed."""
        self._trust = self._combined()
        for why in self._trust.left_out:
            self._left_out.about(InvalidInput(why), key=why)
        self._left_out.over_for_all_but(self._trust.left_out)
        if self._is_open:
            self._write()

    def retry(self) -> None:
        """Write again what could not be written."""
        if self._unwritten is not None:
            self._write()

    def _write(self) -> None:
        """A tmpfs that is full must not keep the containers waiting for all else."""
        try:
            self._put()
            self._unwritten = None
        except RAISED as error:
            self._unwritten = error.what

    def _put(self) -> None:
        self._keyring.trust.put(self.bundle)
        self._written = self._trust.roots

    def _combined(self) -> Trust:
        return combined(self._issuer.root, self._shared, trust_domain=self._trust_domain)


def combined(own: bytes, shared: bytes, *, trust_domain: str) -> Trust:
    """This cell's own root and the store's (PEM, both)."""
    mine = certificates(own, where="this cell's root")
    theirs, wrong = _read(shared, trust_domain=trust_domain)
    if len(theirs) > MOST:
        wrong.append(f"all after the first {MOST}: that is as many as can be")
    known = theirs[:MOST]
    all_roots = [*mine, *known]
    return Trust(_sorted(all_roots), frozenset(map(fingerprint, all_roots)), tuple(wrong), shares_own=set(mine) <= set(known))


def published(shared: bytes, *, trust_domain: str) -> dict[str, x509.Certificate]:
    """Fingerprint -> root, of those of the store (PEM) that count."""
    theirs, _ = _read(shared, trust_domain=trust_domain)
    return {fingerprint(each): each for each in theirs[:MOST]}


def remaining(shared: bytes, former: Collection[str], *, trust_domain: str) -> bytes:
    """PEM of those of the store that count and are not `former` (fingerprints)."""
    return _sorted(each for name, each in published(shared, trust_domain=trust_domain).items() if name not in former)


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
    """For people: the subject, and enough of the fingerprint to distinguish two of the same subject."""
    return f"{certificate.subject.rfc4514_string()} ({fingerprint(certificate)[:16]})"


def _read(shared: bytes, *, trust_domain: str) -> tuple[list[x509.Certificate], list[str]]:
    """The roots, and what is none."""
    theirs: list[x509.Certificate] = []
    wrong: list[str] = []
    for number, block in enumerate(_blocks(shared), start=1):
        try:
            theirs.append(_root(block, trust_domain=trust_domain))
        except CaRefused as error:
            wrong.append(f"number {number}: {error.what}")
    return theirs, wrong


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
