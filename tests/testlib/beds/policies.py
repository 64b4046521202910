"""Policies in force without an agent: those of a store, and of the files of a folder."""

import time
from collections.abc import Callable
from pathlib import Path

from agent.model.outside import NOTHING_INSIDE, Inside
from agent.policy.endings import Endings
from agent.policy.in_force import PoliciesInForce
from agent.store.protocols import PolicyStore


def policies_in(
    folder: Path, store: PolicyStore, *, inside: Inside = NOTHING_INSIDE, now: Callable[[], float] = time.time
) -> PoliciesInForce:
    """Of the store, and of files in `folder`/policies.d, which is made."""
    (folder / "policies.d").mkdir(exist_ok=True)
    endings = Endings(folder / "latest-time", now=now)
    return PoliciesInForce(folder / "policies.d", last_good=folder / "state", store=store, endings=endings, inside=inside)
