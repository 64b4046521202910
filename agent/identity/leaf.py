"""An instance's leaf: issued, and judged again when it is read back or its attachment has changed."""

from datetime import datetime, timedelta

from agent.identity.ca_errors import as_host_refused, as_invalid_input
from ca.authority import Authority
from ca.certificate import Validity
from ca.errors import CaRefused
from ca.leaf import issue_leaf
from ca.names import Identity
from ca.pem import certificates, fits, private_key
from ca.verify import verify
from dataplane.state import Leaf


def issue(authority: Authority, *, identity: Identity, now: datetime, lifetime: timedelta) -> Leaf:
    """A new leaf for `identity`. Raises HostRefused if `authority` has expired or the clock is before it."""
    with as_host_refused():
        issued = issue_leaf(authority, identity=identity, now=now, lifetime=lifetime)
    return Leaf(chain=issued.chain, key=issued.key)


def validity(leaf: Leaf) -> Validity:
    """From when to when `leaf` is valid. Raises InvalidInput if it cannot be read."""
    with as_invalid_input():
        return Validity.of(certificates(leaf.chain, where="the leaf")[0])


def unfit(leaf: Leaf, *, identity: Identity, bundle: bytes, now: datetime) -> str | None:
    """Why `leaf` must be issued anew, or None while it serves: whole, vouched for, not expired, and exactly for `identity`."""
    try:
        found = verify(leaf.chain, bundle, now=now)
        paired = fits(certificates(leaf.chain, where="the leaf")[0], private_key(leaf.key, where="the leaf's key"))
    except CaRefused as error:
        return error.what
    if not paired:
        return "the key is not the certificate's"
    if found != identity:
        return f"it is for {_described(found)}, not for {_described(identity)}"
    return None


def _described(identity: Identity) -> str:
    return f"{identity.spiffe_id} at {identity.address} ({', '.join(identity.dns_names)})"
