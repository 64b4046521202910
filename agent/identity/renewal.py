"""When leaves are renewed, as functions of `now`: the daemon sleeps until `next_wakeup`, then renews what is `due`.

At half its life, a little earlier by name so that 250 containers started together do not come due together. After a failure
again and again, ever later, but always once more before the leaf expires. The valid leaf stays in force all the while.
The clock may have been set since: a leaf from the future, which no caller accepts, is due at once, and a failure in the future
is none, as is one to renew what is not due any more.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from ca.certificate import Validity

DUE = 0.5
SPREAD = 0.05
FIRST_RETRY = timedelta(seconds=1)
LAST_RETRY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Renewal:
    """One leaf on its way to the next. `issuer_ends` is when what would sign the next one expires; `at_once`: it says what
    is no longer so, and the next is due now, whatever is left of its life.
    """

    name: str
    valid: Validity
    issuer_ends: datetime
    failures: int = 0
    failed_at: datetime | None = None
    at_once: bool = False

    def failed(self, *, now: datetime) -> Self:
        """The same after one more attempt that came to nothing."""
        return replace(self, failures=self.failures + 1, failed_at=now)

    def at(self, now: datetime) -> datetime | None:
        """When to try next; None while it would gain nothing, because the next would end with the issuer just the same.

        Without that a leaf of a dying issuer would be renewed after half of ever less, a hundred times in its last minutes.
        """
        due = self._due_at(now)
        if due is None or self.failed_at is None or now < self.failed_at:
            return due
        return max(due, self._retry_at(self.failed_at))

    def is_due(self, now: datetime) -> bool:
        """Whether it is time for the next, however soon after an attempt that has failed."""
        due = self._due_at(now)
        return due is not None and due <= now

    def _due_at(self, now: datetime) -> datetime | None:
        at_once = self.at_once or now < self.valid.not_before  # from the future
        if self.issuer_ends <= self.valid.not_after and not at_once:
            return None
        return now if at_once else due_at(self.valid, name=self.name)

    def _retry_at(self, failed_at: datetime) -> datetime:
        # The exponent is bounded because a timedelta overflows long before a patient agent gives up.
        wait = min(FIRST_RETRY * (1 << min(max(self.failures - 1, 0), 16)), LAST_RETRY)
        left = self.valid.not_after - failed_at
        if left > FIRST_RETRY * 2:
            wait = min(wait, left / 2)
        return failed_at + wait * (1 - SPREAD * _share(self.name))


def due_at(valid: Validity, *, name: str) -> datetime:
    """Between 45 and 50 percent of a leaf's life; where, the name decides."""
    return valid.not_before + (valid.not_after - valid.not_before) * (DUE - SPREAD * _share(name))


def due(renewals: Iterable[Renewal], *, now: datetime) -> tuple[str, ...]:
    """The names to renew now, those that expire first at the front."""
    ready = [each for each in renewals if (at := each.at(now)) is not None and at <= now]
    return tuple(each.name for each in sorted(ready, key=lambda each: (each.valid.not_after, each.name)))


def next_wakeup(renewals: Iterable[Renewal], *, now: datetime) -> datetime | None:
    """When something is due next, `now` if it is already; None if nothing ever will be as things stand."""
    times = [at for each in renewals if (at := each.at(now)) is not None]
    return max(now, min(times)) if times else None


def _share(name: str) -> float:
    """A number from 0 up to 1 that is always the same for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
