"""Certificates that Envoy refuses for their dates: a clock is wrong here or where they come from, or they are not renewed.

A cell has one clock. Between cells nothing else compares them, and calls would fail for reasons that only the log of refused
calls shows.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final

from agent.model.status import Problem
from agent.wording import listed
from dataplane.envoy.refusal import Check, Refusal

# As TLS says it
REASONS: Final = ("certificate is not yet valid", "certificate has expired")
LASTS: Final = 10.0  # seconds; where clocks differ, calls go on being refused
KEPT: Final = 1_000


class DatedCertificates:
    """`elapsed` is in seconds and never jumps."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._seen = OrderedDict[IPv4Address, float]()

    def take(self, refusals: Iterable[Refusal]) -> None:
        """What Envoy reports."""
        for each in refusals:
            if any(reason in each.words for reason in REASONS):
                holder = each.destination if each.check is Check.SERVER else each.source
                self._seen[holder] = self._elapsed()
                self._seen.move_to_end(holder)
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)

    def problems(self) -> Iterator[Problem]:
        """Whose they are, as long as they are shown."""
        now = self._elapsed()
        if holders := sorted(holder for holder, at in self._seen.items() if now - at < LASTS):
            what = f"by the clock here, certificates are not valid yet or any more: those of {listed(list(map(str, holders)))}"
            yield Problem(
                "identity", what, "compare the cells' clocks (`timedatectl`), and see `cellnet status` where these run"
            )
