"""Whose an address is: its app while it is attached, and until the last certificate that names it has ended.

With mutual TLS a container calls as the app of its certificate, and the certificate counts at one address only. The kernel
keeps others from using an address, but not the next container that gets it: with a copy of the last one's key it would pass
for that app. The rule is in agent/store/addresses.py; where an address had to be given early, `status` and the log say so.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address

from agent import log
from agent.model.attachment import Attachment, AttachRequest
from agent.model.names import AppName
from agent.model.owner import Owner
from agent.model.reservation import Reservation
from agent.model.status import Events, Part
from agent.store.last_leaves import ClockBounds, LastLeaf
from agent.store.ledger import Ledger
from ca.certificate import Validity


class AddressHolders(Part):
    """`proving`: whether certificates prove who calls. `now` is the time of day (UTC), `bounds` are what it may be."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        proving: Callable[[], bool],
        now: Callable[[], datetime],
        bounds: Callable[[], ClockBounds],
    ) -> None:
        self._ledger = ledger
        self._proving = proving
        self._now = now
        self._bounds = bounds
        self._early = Events()
        self._log = log.get("attach")

    async def rows(self) -> Mapping[str, object]:
        """`early_addresses` since the agent's start, which certificates of other apps still named, and the last of them."""
        return {"early_addresses": self._early.count, "last_early_addresses": self._early.last}

    def remember(self, attachment: Attachment, valid: Validity) -> None:
        """To be called with each certificate, before any program has its key."""
        leaf = LastLeaf(str(attachment.app), valid.not_before.timestamp(), valid.not_after.timestamp())
        self._ledger.remember_leaf(attachment.address, leaf, now=self._bounds())

    def begin(self, request: AttachRequest, *, owner: Owner) -> Attachment:
        """As Ledger.begin, with an address that is the app's, as far as there is one."""
        if not self._proving():
            return self._ledger.begin(request, owner=owner)
        bounds = self._bounds()
        held = self._ledger.begin(request, owner=owner, proving=bounds)
        self._report_early(held.name, held.app, held.address, bounds)
        return held

    def reserve(self, asked: Reservation, *, instance: int) -> Reservation:
        """As Ledger.reserve, with an address that is the app's, as far as there is one."""
        now = self._now().timestamp()
        if not self._proving():
            return self._ledger.reserve(asked, instance=instance, now=now)
        bounds = self._bounds()
        made = self._ledger.reserve(asked, instance=instance, now=now, proving=bounds)
        if made.place is not None:
            self._report_early(made.name, made.app, made.place.address, bounds)
        return made

    def release(self, name: str) -> Reservation | None:
        """As Ledger.release."""
        return self._ledger.release(name, now=self._now().timestamp())

    def _report_early(self, name: str, app: AppName, address: IPv4Address, bounds: ClockBounds) -> None:
        last = self._ledger.last_leaf(address)
        if last is not None and last.app != str(app) and last.ends > bounds.earliest:
            self._report(name, address, last)

    def _report(self, name: str, address: IPv4Address, last: LastLeaf) -> None:
        until = datetime.fromtimestamp(int(last.ends), UTC)
        names = f"{address}, which a certificate of {last.app or 'another app'} names until {until:%Y-%m-%d %H:%M:%S} UTC"
        self._early.add(self._now(), f"'{name}' has {names}")
        self._log.warning("address_given_early", name=name, address=str(address), last=last.app, until=until.isoformat())
