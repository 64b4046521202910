"""The certificates of this cell's attachments: issued before an attach, kept on tmpfs, renewed at half their life.

A failed renewal keeps the valid leaf and tries again; a new leaf reaches Envoy with the loop's next turn.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from agent import log
from agent.complaint import Complaint, Complaints
from agent.errors import RAISED, InvalidInput
from agent.identity.issuer import Issuer
from agent.identity.keyring import Keyring
from agent.identity.leaf import issue, unfit, validity
from agent.identity.names import Names, Naming, identity
from agent.identity.renewal import Renewal, due, next_wakeup
from agent.identity.trust import CellTrust
from agent.model.attachment import Attachment
from agent.model.status import Part, Problem, as_problems
from agent.pacing import wait_for_event
from agent.wording import listed
from ca.certificate import Validity
from ca.disk import Authorities, Certificates
from ca.names import Identity
from dataplane.state import Leaf

LONGEST_SLEEP = 2.0  # seconds; the clock of the host may be set meanwhile


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What every leaf of this cell has in common. `naming` gives the names in it."""

    trust_domain: str
    naming: Naming
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class CaRow:
    """When the root and this cell's certificate end, and when the next certificate of all (leaves included) does (UTC)."""

    trust_domain: str
    root_not_after: datetime
    cell_not_after: datetime
    next_expiry: datetime


class Leaves(Part):
    """`authorities` reads this cell's CA from `folder`, renewing what is due; `now` is the time of day (UTC).

    `needed` where there are containers: then what the cell cannot issue with is a problem instead of the end of the start.
    `remember` is called with each certificate's validity before its key is in a file.
    """

    def __init__(
        self,
        authorities: Callable[[], Authorities],
        *,
        keyring: Keyring,
        facts: LeafFacts,
        now: Callable[[], datetime],
        folder: Path | None = None,
        needed: bool = False,
        remember: Callable[[Attachment, Validity], None] = lambda _attachment, _valid: None,
    ) -> None:
        self.keyring = keyring
        self._remember = remember
        self._facts = facts
        self._now = now
        self._leaves: dict[str, Leaf] = {}
        self._renewals: dict[str, Renewal] = {}
        self._roots: dict[str, str] = {}  # fingerprints
        self._attachments: dict[str, Attachment] = {}
        self._names: dict[str, Names] = {}  # that each leaf was issued for
        self._held = facts.naming.held()
        self._wake, self._renewed = asyncio.Event(), asyncio.Event()
        self._tell: Callable[[str], None] = lambda _what: None
        self._log = log.get("identity")
        self._failures = Complaints(self._log, failed="renewal_failed")
        self._issuer = Issuer(authorities, folder=folder, trust_domain=facts.trust_domain, now=now, needed=needed)
        self.trust = CellTrust(self._issuer, keyring, trust_domain=facts.trust_domain)

    @property
    def authorities(self) -> Authorities | Certificates:
        """What this cell vouches with."""
        return self._issuer.authorities

    def report_to(self, tell: Callable[[str], None]) -> None:
        """Have what is issued and renewed from now on told to another part, too."""
        self._tell = tell

    def set_lifetime(self, lifetime: timedelta) -> None:
        """From now on certificates are issued for so long; those that are there keep their time."""
        self._facts = replace(self._facts, lifetime=lifetime)

    @property
    def trust_domain(self) -> str:
        """Of every leaf of this cell."""
        return self._facts.trust_domain

    @property
    def roots(self) -> frozenset[str]:
        """Fingerprints of those that the leaves here lead to: its own, and a former one while leaves of that are left."""
        return frozenset({self._issuer.root_fingerprint, *self._roots.values()})

    @property
    def failures(self) -> Mapping[str, Complaint]:
        """Attachment, or "" for the cell -> why there is no new certificate."""
        failures = {str(name): each for name, each in self._failures.standing.items()}
        return failures | ({} if self._issuer.failure is None else {"": self._issuer.failure})

    def problems(self) -> Iterator[Problem]:
        """Certificates that are not renewed, and cells that do not trust each other."""
        for name, each in self.failures.items():
            if not (name and self._issuer.has_ended):  # then one line says it for all
                yield Problem("identity", f"no new certificate for {name or 'the cell'}: {each.what}", each.hint)
        yield from as_problems("identity", self._issuer.expiry())
        yield from as_problems("identity", self._issuer.root_expiry())
        yield from self.trust.problems()
        for name, attachment in sorted(self._attachments.items()):
            for route in sorted(set(attachment.routes) - set(self._facts.naming.domains.allowed(attachment.routes))):
                hint = "attach it again with another route, or set dns.route_domains as before and restart the agent"
                yield Problem("identity", f"{name}: route '{route}' is in no certificate: it lies below no route domain", hint)

    async def rows(self) -> Mapping[str, object]:
        """`ca`."""
        return {"ca": self.expiries()}

    def expiries(self) -> CaRow:
        """When what this cell vouches with ends."""
        cell, leaf = self.authorities.cell, self.next_expiry()
        root_ends, cell_ends = cell.chain[-1].not_valid_after_utc, cell.certificate.not_valid_after_utc
        return CaRow(self._facts.trust_domain, root_ends, cell_ends, next_expiry=min(cell_ends, leaf or cell_ends))

    def load(self, attachments: Iterable[Attachment]) -> None:
        """At the start: take what is on tmpfs for these attachments, issue what is missing or unfit, sweep the rest."""
        self.keyring.open()
        self.trust.open()
        here, self._held, issued = tuple(attachments), self._facts.naming.held(), list[str]()
        kept = self.keyring.load({each.name: each.key_owner for each in here})
        for attachment in here:
            leaf = kept.get(attachment.name)
            if leaf is not None and self._unfit(leaf, attachment) is None:
                self._keep(attachment, leaf)
            elif self._issue_when_possible(attachment, leaf):
                issued.append(attachment.name)
        self.keyring.sweep(self._attachments)
        if issued:
            self._tell(f"certificates issued at the start: {listed(issued)}")

    def _keep(self, attachment: Attachment, leaf: Leaf) -> None:
        self._remember(attachment, validity(leaf))
        self._adopt(attachment, leaf)

    def _issue_when_possible(self, attachment: Attachment, kept: Leaf | None) -> bool:
        """Now, which is True, or when what stands in the way has gone: one container's TLS must not keep the others waiting.
        Until then what was kept serves on where only this cell's clock speaks against it: others may see it otherwise.
        """
        try:
            self._issue(attachment)
        except RAISED as error:
            name, now = attachment.name, self._now()
            self._attachments[name] = attachment
            if kept is not None and self._unfit(kept, attachment, whenever=True) is None:
                self._keep(attachment, kept)
            issuer_ends = self.authorities.cell.valid.not_after
            self._renewals[name] = Renewal(name, Validity(now, now), issuer_ends).failed(now=now)
            self._failures.about(error, key=name, name=name)
            return False
        return True

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
        """Issue a leaf for the names that hold, and keep it. Raises InvalidInput, HostRefused."""
        self._issue(attachment)
        ends = self._renewals[attachment.name].valid.not_after
        self._tell(f"certificate issued for {attachment.name} ({attachment.app}), until {ends:%Y-%m-%d %H:%M:%S}")

    def _issue(self, attachment: Attachment) -> None:
        self.follow()
        leaf = issue(self._issuer.cell(), identity=self._identity(attachment), now=self._now(), lifetime=self._facts.lifetime)
        self._remember(attachment, validity(leaf))
        self.keyring.put(attachment.name, leaf, owner=attachment.key_owner)
        self._adopt(attachment, leaf)

    def drop(self, name: str) -> None:
        """Forget one and remove its files. Absent is fine."""
        self._leaves.pop(name, None)
        self._roots.pop(name, None)
        self._renewals.pop(name, None)
        self._names.pop(name, None)
        self._attachments.pop(name, None)
        self._failures.over(key=name)
        self.keyring.drop(name)

    async def run(self, on_change: Callable[[], None]) -> None:
        """Renew what is due, and the cell's own certificate before it. Ends only by cancellation."""
        while True:
            at = self._next()
            seconds = LONGEST_SLEEP if at is None else min((at - self._now()).total_seconds(), LONGEST_SLEEP)
            await wait_for_event(self._wake, within=max(seconds, 0.05))
            self._wake.clear()
            if await self._renew():
                on_change()
            self._renewed.set()

    def look(self) -> None:
        """See at once whether the cell's own certificate is another."""
        self._wake.set()

    def follow(self) -> None:
        """See which names hold, and have each certificate issued anew that has others. Cheap where nothing changed."""
        before, self._held = self._held, self._facts.naming.held()
        behind = [] if self._held.is_as(before) else self._behind()
        for name in behind:
            self._renewals[name] = replace(self._renewals[name], at_once=True)
        if behind:
            self._wake.set()

    async def in_step(self) -> None:
        """Return when each certificate has the names that hold. One that cannot be issued now is not waited for."""
        self.follow()
        while any(name not in self._failures.standing for name in self._behind()):
            self._renewed.clear()
            self._wake.set()
            await self._renewed.wait()

    def _behind(self) -> list[str]:
        """Those whose certificates have other names than hold, though they may be due already."""
        return [name for name, each in self._attachments.items() if self._names.get(name) != self._names_of(each)]

    def _next(self) -> datetime | None:
        times = [each for each in (next_wakeup(self._renewals.values(), now=self._now()), self._issuer.due_at()) if each]
        return min(times, default=None)

    async def _renew(self) -> bool:
        now = self._now()
        changed = self._issuer.renew()
        if changed:
            self._follow_issuer()
            ends = self.authorities.cell.valid.not_after
            self._tell(f"another certificate of the cell, or another root: until {ends:%Y-%m-%d %H:%M:%S}")
        self.trust.retry()
        renewed = list[str]()
        for name in due(self._renewals.values(), now=now):
            await asyncio.sleep(0)  # all leaves of an app may be due at once, and each takes a millisecond
            if name not in self._renewals:
                continue  # detached meanwhile
            try:
                self._issue(self._attachments[name])
                self._failures.over(key=name)
                renewed.append(name)
            except RAISED as error:
                self._renewals[name] = self._renewals[name].failed(now=now)
                self._failures.about(error, key=name, name=name)
        self._forget_failures(now)
        if renewed:
            self._log.info("renewed", leaves=len(renewed))
            self._tell(f"certificates renewed: {listed(sorted(renewed))}")
        return bool(renewed) or changed

    def _forget_failures(self, now: datetime) -> None:
        """To renew what is not due any more, as the clock was wrong."""
        for name in [name for name in map(str, self._failures.standing) if name in self._renewals]:
            if not self._renewals[name].is_due(now):
                self._renewals[name] = replace(self._renewals[name], failures=0, failed_at=None)
                self._failures.over(key=name)

    def _follow_issuer(self) -> None:
        now = self._now()
        self.trust.refresh()
        # what was to end with the old issuer may now live on
        ends = self.authorities.cell.valid.not_after
        self._renewals = {name: replace(each, issuer_ends=ends) for name, each in self._renewals.items()}
        # under another root, what the old one vouches for is taken only as long as the store has that too
        unfit = [name for name, leaf in self._leaves.items() if self._unfit(leaf, self._attachments[name]) is not None]
        self._renewals |= {name: Renewal(name, Validity(now, now), ends) for name in unfit}

    def _adopt(self, attachment: Attachment, leaf: Leaf) -> None:
        self._leaves[attachment.name] = leaf
        self._names[attachment.name] = self._names_of(attachment)
        self._roots[attachment.name] = self._issuer.root_fingerprint
        self._attachments[attachment.name] = attachment
        issuer_ends = self.authorities.cell.valid.not_after
        self._renewals[attachment.name] = Renewal(name=attachment.name, valid=validity(leaf), issuer_ends=issuer_ends)
        self._wake.set()

    def _unfit(self, leaf: Leaf, attachment: Attachment, *, whenever: bool = False) -> str | None:
        """`whenever`: but for its dates."""
        try:
            now = validity(leaf).not_before if whenever else self._now()
        except InvalidInput as error:
            return error.what
        return unfit(leaf, identity=self._identity(attachment), bundle=self.trust.own_root, now=now)

    def _identity(self, attachment: Attachment) -> Identity:
        return identity(
            attachment.app,
            index=attachment.instance,
            address=attachment.address,
            names=self._names_of(attachment),
            trust_domain=self._facts.trust_domain,
        )

    def _names_of(self, attachment: Attachment) -> Names:
        return self._facts.naming.of(attachment.app, attachment.routes, self._held)
