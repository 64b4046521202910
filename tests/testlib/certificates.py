"""A CA of a test, and TLS between two of its leaves without a socket."""

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.authority import Authority, issue_cell, make_root, new_key
from ca.certificate import Signer, key_usage, sign, subject, validity
from ca.leaf import Issued, issue_leaf
from ca.names import Identity
from ca.pem import chain_bytes, key_bytes

# TLS libraries look at the machine's clock, so what they verify must be valid today.
TODAY = datetime.now(UTC)
TRUST_DOMAIN = "cell.internal"


def identity(app: str = "acme/shop/web", *, address: str = "10.255.1.2", names: tuple[str, ...] = ()) -> Identity:
    """The identity of a test's leaf."""
    org, space, name = app.split("/")
    return Identity(TRUST_DOMAIN, org, space, name, address=IPv4Address(address), dns_names=names)


@dataclass(frozen=True, slots=True)
class Ca:
    """A root and one cell."""

    root: Authority
    cell: Authority

    def leaf(self, whom: Identity, *, now: datetime = TODAY, lifetime: timedelta = timedelta(hours=24)) -> Issued:
        """A leaf of this cell."""
        return issue_leaf(self.cell, identity=whom, now=now, lifetime=lifetime)


def odd_leaf(issuer: Authority, *names: x509.GeneralName, common: str = "web") -> Issued:
    """A client's leaf with these alternative names, which no CA of cellnet would issue."""
    key = new_key()
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = sign(
        issuer.signer(),
        name=subject(organization="acme", common=common),
        key=key.public_key(),
        valid=validity(now=TODAY, lifetime=timedelta(hours=1)),
        extensions=[(usage, False), *([(x509.SubjectAlternativeName(names), False)] if names else [])],
    )
    return Issued(chain_bytes((certificate, *issuer.below_root())), key_bytes(key))


def make_ca(*, now: datetime = TODAY, root_days: float = 3650, cell_days: float = 90) -> Ca:
    """A new CA, foreign to every other."""
    root = make_root(trust_domain=TRUST_DOMAIN, now=now, lifetime=timedelta(days=root_days))
    lifetime = timedelta(days=cell_days)
    return Ca(root, issue_cell(root, cell="one", trust_domain=TRUST_DOMAIN, now=now, lifetime=lifetime))


def named_root(name: x509.Name) -> x509.Certificate:
    """A self-signed certificate of any subject."""
    key = new_key()
    valid = validity(now=TODAY, lifetime=timedelta(days=9))
    extensions = ((x509.BasicConstraints(ca=True, path_length=1), True), (key_usage(authority=True), True))
    return sign(Signer(name, key), name=name, key=key.public_key(), valid=valid, extensions=extensions)


def load_leaf(context: ssl.SSLContext, leaf: Issued) -> None:
    """Have `context` present `leaf`."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(leaf.key + leaf.chain)
        context.load_cert_chain(file.name)


def client_context(bundle: bytes, *, leaf: Issued | None = None) -> ssl.SSLContext:
    """Python's defaults and RFC 5280 to the letter, trusting `bundle` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=bundle.decode())
    if leaf is not None:
        load_leaf(context, leaf)
    return context


def server_context(leaf: Issued, *, client_bundle: bytes | None = None) -> ssl.SSLContext:
    """A server with `leaf`; with `client_bundle` it demands a client certificate of that CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_leaf(context, leaf)
    if client_bundle is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=client_bundle.decode())
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, *, dialled: str) -> bytes:
    """TLS from a client that dialled the name or address `dialled`; returns what the server read from it.

    Raises ssl.SSLError as whichever side refuses would.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=dialled)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ours.write(b"hello")
    return theirs.read(5)
