"""What this cell vouches with, kept current: renewed here where the root's key is, read from the disk where it is not.

The operator copies a renewed cell.crt and cell.key into the folder, one after the other, while the agent runs. They are used
once they have stayed the same from one look to the next; a pair that does not match is reported, and the old one stays.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.x509.oid import NameOID

from agent import log
from agent.complaint import Complaint, Complaints
from agent.errors import RAISED, HostRefused
from agent.identity.ca_errors import as_host_refused
from ca.authority import Authority
from ca.certificate import Validity
from ca.disk import Authorities, Certificates, load, load_certificates, stamp
from ca.pem import fingerprint

RETRY = timedelta(minutes=1)
ROOT_LAST, ROOT_LAST_PART = timedelta(days=180), 10  # before its end; of a root that is short-lived, this part
LAST_PART = 6  # the operator is asked for the next one when a sixth of the life is left: of 90 days, 15


class Issuer:
    """`read` reads the CA in `folder`, renewing what is due, and makes it at the first start; `now` is the time of day (UTC).

    Without a `folder` the files are not looked at again. Where a cell is `needed`, as it has containers, what it cannot issue
    with, as the key is missing or a certificate has ended, is a problem, and what was issued before stays in use.
    """

    def __init__(
        self,
        read: Callable[[], Authorities],
        *,
        folder: Path | None,
        trust_domain: str,
        now: Callable[[], datetime],
        needed: bool = False,
    ) -> None:
        self._read = read
        self._folder = folder
        self._trust_domain = trust_domain
        self._now = now
        self._failed_at: datetime | None = None
        self._log = log.get("identity")
        self._complaints = Complaints(self._log, failed="cell_renewal_failed")
        self._taken = self._seen = self._stamp()  # before it is read, here and below: what comes meanwhile counts as another
        try:
            with as_host_refused():
                self.authorities: Authorities | Certificates = read()
        except RAISED as error:
            known = load_certificates(folder, trust_domain=trust_domain) if needed and folder is not None else None
            if known is None:
                raise
            self.authorities = known
            self._has_failed(error)

    @property
    def failure(self) -> Complaint | None:
        """Why the last attempt to read or to renew came to nothing."""
        return self._complaints.standing.get(None)

    @property
    def root(self) -> bytes:
        """PEM of this cell's own root."""
        return self.authorities.bundle()

    @property
    def root_fingerprint(self) -> str:
        """Of that root: SHA-256, 64 hex digits."""
        return fingerprint(self.authorities.cell.chain[-1])

    def due_at(self) -> datetime | None:
        """When to renew the cell's own certificate, later than it is due if that has just failed.

        At once where the clock was set back to before it: nothing that it signs is valid then.
        """
        now, failed_at = self._now(), self._failed_at
        from_the_future = now < self.authorities.cell.valid.not_before
        due_at = now if from_the_future and self.authorities.root is not None else self.authorities.renew_at
        if due_at is None or failed_at is None or now < failed_at:
            return due_at
        return max(due_at, failed_at + RETRY)

    def renew(self) -> bool:
        """Whether it vouches with something new: due, or copied into the folder. What has failed is tried again."""
        due_at = self.due_at()
        if due_at is not None and due_at <= self._now():
            return self._take(self._read)
        if self._folder is not None and (self._replaced() or self._is_to_be_tried_again()):
            folder = self._folder
            if isinstance(self.authorities, Certificates):
                return self._take(self._read)
            return self._take(lambda: load(folder, trust_domain=self._trust_domain, now=self._now()))
        return False

    def _is_to_be_tried_again(self) -> bool:
        """What was wrong may have been the clock, or have been mended without a change of these files."""
        now, failed_at = self._now(), self._failed_at
        return failed_at is not None and not failed_at <= now < failed_at + RETRY

    def cell(self) -> Authority:
        """What issues. Raises HostRefused where the cell has nothing to issue with."""
        ended = self.expiry() if self.has_ended else None
        if ended is not None:
            raise ended
        if isinstance(self.authorities, Authorities):
            return self.authorities.cell
        assert self.failure is not None
        raise HostRefused(f"no certificate can be issued: {self.failure.what}", hint=self.failure.hint)

    @property
    def has_ended(self) -> bool:
        """Whether it can vouch for nothing more, and what it has vouched for has ended with it."""
        return self._now() > self.authorities.cell.valid.not_after

    def expiry(self) -> HostRefused | None:
        """What the operator must know in time where the certificate cannot be renewed here, and wherever it has ended."""
        certificate = self.authorities.cell.certificate
        valid = Validity.of(certificate)
        last = valid.not_after - (valid.not_after - valid.not_before) / LAST_PART
        at, here = f"{valid.not_after:%Y-%m-%d %H:%M:%S} UTC", self.authorities.root is not None
        if not self.has_ended and (here or self._now() < last):
            return None
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        cell = str(name.value).removeprefix("cell ")
        made = f"'cellnet ca issue-cell --cell {cell} --out {cell}'"
        hint = f"have the root's owner run {made}, and copy cell.crt and cell.key to {self._folder or 'its ca folder'}"
        if self.has_ended:
            what = f"this cell's own certificate has ended at {at}: TLS fails since, and no other can be issued"
            return HostRefused(what, hint="see the clock, and the agent's log for why it is not renewed" if here else hint)
        return HostRefused(f"this cell's own certificate ends at {at} and is not renewed by itself", hint=hint)

    def root_expiry(self) -> HostRefused | None:
        """What the operator must know in time: nothing outlives the root."""
        valid = Validity.of(self.authorities.cell.chain[-1])
        if self._now() < valid.not_after - min(ROOT_LAST, (valid.not_after - valid.not_before) / ROOT_LAST_PART):
            return None
        what = f"the root ends at {valid.not_after:%Y-%m-%d %H:%M:%S} UTC, and every certificate with it"
        return HostRefused(what, hint="'cellnet ca rotate' puts another in its place (docs/cells.md)")

    def _replaced(self) -> bool:
        found = self._stamp()
        settled, self._seen = found == self._seen, found
        return settled and found != self._taken

    def _stamp(self) -> object:
        return None if self._folder is None else stamp(self._folder)

    def _take(self, read: Callable[[], Authorities]) -> bool:
        self._taken = self._stamp()
        before = self.authorities
        try:
            with as_host_refused():
                self.authorities = read()
        except RAISED as error:
            self._has_failed(error)
            return False
        self._failed_at = None
        self._complaints.over()
        changed = self.authorities != before
        if changed:
            self._log.info("cell_renewed", until=self.authorities.cell.valid.not_after.isoformat())
        return changed

    def _has_failed(self, error: Complaint) -> None:
        self._failed_at = self._now()
        self._complaints.about(error)
