"""The certificates of this cell's attachments: issued before an attach, kept on tmpfs, renewed at half their life.

A failed renewal keeps the valid leaf and tries again; a new leaf reaches Envoy with the loop's next turn.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent import log
from agent.errors import RAISED, CellnetError
from agent.identity.keyring import Keyring
from agent.identity.leaf import issue, unfit, validity
from agent.identity.names import identity
from agent.identity.refusal import host_refusals_told
from agent.identity.renewal import Renewal, due, next_wakeup
from agent.model.attachment import Attachment
from ca.certificate import Validity
from ca.disk import Authorities
from ca.names import Identity
from dataplane.state import Leaf

CELL_RETRY = timedelta(minutes=1)
LONGEST_SLEEP = 2.0  # seconds; the clock of the host may be set meanwhile


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What every leaf of this cell has in common."""

    trust_domain: str
    dns_domain: str
    lifetime: timedelta


class Leaves:
    """`authorities` reads this cell's CA from disk, renewing what is due; `now` is the time of day (UTC)."""

    def __init__(
        self, authorities: Callable[[], Authorities], *, keyring: Keyring, facts: LeafFacts, now: Callable[[], datetime]
    ) -> None:
        self._read_authorities = authorities
        self.keyring = keyring
        self._facts = facts
        self._now = now
        self._leaves: dict[str, Leaf] = {}
        self._renewals: dict[str, Renewal] = {}
        self._of: dict[str, Attachment] = {}
        self._wake = asyncio.Event()
        self._cell_failed_at: datetime | None = None
        self._log = log.get("identity")
        self.authorities = self._authorities()
        self.failures: dict[str, str] = {}

    def _authorities(self) -> Authorities:
        with host_refusals_told():
            return self._read_authorities()

    @property
    def bundle(self) -> bytes:
        """PEM of what everybody trusts."""
        return self.authorities.bundle()

    def load(self, attachments: Iterable[Attachment]) -> None:
        """At the start: take what is on tmpfs for these attachments, issue what is missing or unfit, sweep the rest."""
        self.keyring.open()
        self.keyring.put_trust(self.bundle)
        kept = self.keyring.load()
        for attachment in attachments:
            leaf = kept.get(attachment.name)
            if leaf is not None and self._unfit(leaf, attachment) is None:
                self._adopt(attachment, leaf)
            else:
                self._issue_when_possible(attachment)
        self.keyring.sweep(self._of)

    def _issue_when_possible(self, attachment: Attachment) -> None:
        """Now, or when what stands in the way has gone: one container's TLS must not keep the others waiting."""
        try:
            self.ensure(attachment)
        except RAISED as error:
            name, now = attachment.name, self._now()
            self._of[name] = attachment
            issuer_ends = self.authorities.cell.valid.not_after
            self._renewals[name] = Renewal(name, Validity(now, now), issuer_ends).failed(now=now)
            self._tell_failure(name, error)

    def all(self) -> Mapping[str, Leaf]:
        """By attachment name."""
        return dict(self._leaves)

    def not_after(self, name: str) -> datetime | None:
        """When an attachment's leaf ends."""
        renewal = self._renewals.get(name)
        return None if renewal is None else renewal.valid.not_after

    def next_expiry(self) -> datetime | None:
        """When the first leaf ends."""
        return min((each.valid.not_after for each in self._renewals.values()), default=None)

    def ensure(self, attachment: Attachment) -> None:
        """Issue a leaf and keep it. Raises InvalidInput, HostRefused."""
        leaf = issue(self.authorities.cell, identity=self._identity(attachment), now=self._now(), lifetime=self._facts.lifetime)
        self.keyring.put(attachment.name, leaf)
        self._adopt(attachment, leaf)

    def drop(self, name: str) -> None:
        """Forget one and remove its files. Absent is fine."""
        self._leaves.pop(name, None)
        self._renewals.pop(name, None)
        self._of.pop(name, None)
        self.failures.pop(name, None)
        self.keyring.drop(name)

    async def run(self, on_change: Callable[[], None]) -> None:
        """Renew for ever what is due, and the cell's own certificate before it."""
        while True:
            at = self._next()
            seconds = LONGEST_SLEEP if at is None else min((at - self._now()).total_seconds(), LONGEST_SLEEP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, 0.05)):
                    await self._wake.wait()
            self._wake.clear()
            if self._renew():
                on_change()

    def _next(self) -> datetime | None:
        times = [each for each in (next_wakeup(self._renewals.values(), now=self._now()), self._cell_at()) if each]
        return min(times, default=None)

    def _cell_at(self) -> datetime | None:
        """When to renew the cell's own certificate, later than it is due if that has just failed.

        At once where the clock was set back to before it: it vouches for nobody then.
        """
        now, failed_at = self._now(), self._cell_failed_at
        from_the_future = now < self.authorities.cell.valid.not_before
        due_at = now if from_the_future and self.authorities.root is not None else self.authorities.renew_at
        if due_at is None or failed_at is None or now < failed_at:
            return due_at
        return max(due_at, failed_at + CELL_RETRY)

    def _renew(self) -> bool:
        now = self._now()
        cell_at = self._cell_at()
        if cell_at is not None and cell_at <= now:
            self._renew_cell()
        renewed = 0
        for name in due(self._renewals.values(), now=now):
            try:
                self.ensure(self._of[name])
                self.failures.pop(name, None)
                renewed += 1
            except RAISED as error:
                self._renewals[name] = self._renewals[name].failed(now=now)
                self._tell_failure(name, error)
        if renewed:
            self._log.info("renewed", leaves=renewed)
        return bool(renewed)

    def _tell_failure(self, name: str, error: CellnetError) -> None:
        if name not in self.failures:
            self._log.error("renewal_failed", name=name, what=error.what, hint=error.hint)
        self.failures[name] = error.what

    def _renew_cell(self) -> None:
        try:
            self.authorities = self._authorities()
            self.keyring.put_trust(self.bundle)
        except RAISED as error:
            self._cell_failed_at = self._now()
            if self.failures.get("") != error.what:
                self._log.error("cell_renewal_failed", what=error.what, hint=error.hint)
            self.failures[""] = error.what
            return
        self._cell_failed_at = None
        self.failures.pop("", None)
        # what was to end with the old issuer may now live on
        ends = self.authorities.cell.valid.not_after
        self._renewals = {name: replace(each, issuer_ends=ends) for name, each in self._renewals.items()}

    def _adopt(self, attachment: Attachment, leaf: Leaf) -> None:
        self._leaves[attachment.name] = leaf
        self._of[attachment.name] = attachment
        issuer_ends = self.authorities.cell.valid.not_after
        self._renewals[attachment.name] = Renewal(name=attachment.name, valid=validity(leaf), issuer_ends=issuer_ends)
        self._wake.set()

    def _unfit(self, leaf: Leaf, attachment: Attachment) -> str | None:
        return unfit(leaf, identity=self._identity(attachment), bundle=self.bundle, now=self._now())

    def _identity(self, attachment: Attachment) -> Identity:
        return identity(
            attachment.app,
            index=attachment.instance,
            address=attachment.address,
            routes=attachment.routes,
            domain=self._facts.dns_domain,
            trust_domain=self._facts.trust_domain,
        )
