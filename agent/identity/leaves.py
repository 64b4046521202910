"""The certificates of this cell's attachments: issued before an attach, kept on tmpfs, renewed at half their life.

A failed renewal keeps the valid leaf and tries again; a new leaf reaches Envoy with the loop's next turn.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from agent import log
from agent.errors import RAISED, CellnetError
from agent.identity.issuer import Issuer
from agent.identity.keyring import Keyring
from agent.identity.leaf import issue, unfit, validity
from agent.identity.names import identity
from agent.identity.renewal import Renewal, due, next_wakeup
from agent.identity.trust import Trust, combined
from agent.model.attachment import Attachment
from agent.model.status import Part, Problem
from ca.certificate import Validity
from ca.disk import Authorities
from ca.names import Identity
from dataplane.state import Leaf

LONGEST_SLEEP = 2.0  # seconds; the clock of the host may be set meanwhile


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What every leaf of this cell has in common."""

    trust_domain: str
    dns_domain: str
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class CaRow:
    """When the root and this cell's certificate end, and when the next certificate of all (leaves included) does (UTC)."""

    trust_domain: str
    root_not_after: datetime
    cell_not_after: datetime
    next_expiry: datetime


class Leaves(Part):
    """`authorities` reads this cell's CA from `folder`, renewing what is due; `now` is the time of day (UTC)."""

    def __init__(
        self,
        authorities: Callable[[], Authorities],
        *,
        keyring: Keyring,
        facts: LeafFacts,
        now: Callable[[], datetime],
        folder: Path | None = None,
    ) -> None:
        self.keyring = keyring
        self._facts = facts
        self._now = now
        self._leaves: dict[str, Leaf] = {}
        self._renewals: dict[str, Renewal] = {}
        self._of: dict[str, Attachment] = {}
        self._wake = asyncio.Event()
        self._log = log.get("identity")
        self._issuer = Issuer(authorities, folder=folder, trust_domain=facts.trust_domain, now=now)
        self._shared, self._others = b"", False
        self._trust = self._combined()
        self._opened = False
        self._untold: str | None = None  # why apps cannot read yet whom to trust
        self._failures: dict[str, str] = {}

    @property
    def authorities(self) -> Authorities:
        """What this cell vouches with."""
        return self._issuer.authorities

    @property
    def bundle(self) -> bytes:
        """PEM of what everybody here trusts."""
        return self._trust.bundle

    @property
    def trust_domain(self) -> str:
        """Of every leaf of this cell."""
        return self._facts.trust_domain

    @property
    def own_root(self) -> bytes:
        """PEM of the root that vouches for this cell."""
        return self._issuer.root

    @property
    def failures(self) -> Mapping[str, str]:
        """Attachment, or "" for the cell -> why there is no new certificate."""
        return self._failures | ({} if self._issuer.failure is None else {"": self._issuer.failure})

    def problems(self) -> Iterator[Problem]:
        """Certificates that are not renewed, and cells that do not trust each other."""
        for name, what in self.failures.items():
            yield Problem("identity", f"no new certificate for {name or 'the cell'}: {what}")
        yield from (Problem("identity", what, hint) for what, hint in self._about_trust())

    async def rows(self) -> Mapping[str, object]:
        """`ca`."""
        return {"ca": self.expiries()}

    def expiries(self) -> CaRow:
        """When what this cell vouches with ends."""
        cell, leaf = self.authorities.cell, self.next_expiry()
        root_ends, cell_ends = cell.chain[-1].not_valid_after_utc, cell.certificate.not_valid_after_utc
        return CaRow(self._facts.trust_domain, root_ends, cell_ends, next_expiry=min(cell_ends, leaf or cell_ends))

    def _about_trust(self) -> Iterator[tuple[str, str]]:
        expiry = self._issuer.expiry()
        if expiry is not None:
            yield expiry, "have the root's owner run 'cellnet ca issue-cell', and copy cell.crt and cell.key to this cell's ca"
        if self._untold is not None:
            yield f"{self.keyring.trust} is not what it should be: {self._untold}", "it is tried again by itself"
        for what in self._trust.left_out:
            yield f"a root in the store's trust bundle is left out, {what}", "'cellnet ca publish' replaces them"
        if not self._trust.shares_own and (self._shared or (self._others and self.authorities.root is not None)):
            yield (
                "other cells do not trust this cell: its root is not in the store's trust bundle",
                "have the common root issue its certificate ('cellnet ca issue-cell'), or run 'cellnet ca publish --add' here",
            )

    def trust(self, shared: bytes, *, others: bool) -> None:
        """Trust also the roots that the store has (PEM). `others`: whether there are other cells."""
        self._others = others
        if shared != self._shared:
            self._shared = shared
            self._trust_anew()

    def _combined(self) -> Trust:
        return combined(self._issuer.root, self._shared, trust_domain=self._facts.trust_domain)

    def _trust_anew(self) -> None:
        self._trust = self._combined()
        for what in self._trust.left_out:
            self._log.error("root_left_out", what=what)
        if self._opened:
            self._tell_apps()

    def _tell_apps(self) -> None:
        """A tmpfs that is full must not keep the containers waiting for all else."""
        try:
            self.keyring.put_trust(self.bundle)
            self._untold = None
        except RAISED as error:
            self._untold = error.what

    def load(self, attachments: Iterable[Attachment]) -> None:
        """At the start: take what is on tmpfs for these attachments, issue what is missing or unfit, sweep the rest."""
        self.keyring.open()
        self._opened = True
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
        self._failures.pop(name, None)
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
        times = [each for each in (next_wakeup(self._renewals.values(), now=self._now()), self._issuer.due_at()) if each]
        return min(times, default=None)

    def _renew(self) -> bool:
        now = self._now()
        changed = self._issuer.renew()
        if changed:
            self._follow_issuer()
        if self._untold is not None:
            self._tell_apps()
        renewed = 0
        for name in due(self._renewals.values(), now=now):
            try:
                self.ensure(self._of[name])
                self._failures.pop(name, None)
                renewed += 1
            except RAISED as error:
                self._renewals[name] = self._renewals[name].failed(now=now)
                self._tell_failure(name, error)
        if renewed:
            self._log.info("renewed", leaves=renewed)
        return bool(renewed) or changed

    def _tell_failure(self, name: str, error: CellnetError) -> None:
        if name not in self._failures:
            self._log.error("renewal_failed", name=name, what=error.what, hint=error.hint)
        self._failures[name] = error.what

    def _follow_issuer(self) -> None:
        now = self._now()
        self._trust_anew()
        # what was to end with the old issuer may now live on
        ends = self.authorities.cell.valid.not_after
        self._renewals = {name: replace(each, issuer_ends=ends) for name, each in self._renewals.items()}
        # under another root, what the old one vouches for is taken only as long as the store has that too
        unfit = [name for name, leaf in self._leaves.items() if self._unfit(leaf, self._of[name]) is not None]
        self._renewals |= {name: Renewal(name, Validity(now, now), ends) for name in unfit}

    def _adopt(self, attachment: Attachment, leaf: Leaf) -> None:
        self._leaves[attachment.name] = leaf
        self._of[attachment.name] = attachment
        issuer_ends = self.authorities.cell.valid.not_after
        self._renewals[attachment.name] = Renewal(name=attachment.name, valid=validity(leaf), issuer_ends=issuer_ends)
        self._wake.set()

    def _unfit(self, leaf: Leaf, attachment: Attachment) -> str | None:
        return unfit(leaf, identity=self._identity(attachment), bundle=self.own_root, now=self._now())

    def _identity(self, attachment: Attachment) -> Identity:
        return identity(
            attachment.app,
            index=attachment.instance,
            address=attachment.address,
            routes=attachment.routes,
            domain=self._facts.dns_domain,
            trust_domain=self._facts.trust_domain,
        )
