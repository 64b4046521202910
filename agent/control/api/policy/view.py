"""A policy as the API shows it."""

from collections.abc import Mapping

from agent.model.policy import ECHO, Policy
from agent.policy.language.documents import written
from agent.policy.language.terms import AUDIT, written_until


def view(held: Policy, *, ended: bool = False) -> Mapping[str, object]:
    """One policy, in the words of the policy file; it has no line and column where the store has it."""
    return {
        "name": held.name,
        "from": written(held.sources),
        "to": written(held.to),
        "tcp": list(map(str, held.tcp)),
        "udp": list(map(str, held.udp)),
        "icmp": str(ECHO) if held.icmp else None,
        "mode": AUDIT if held.audit else None,
        "until": None if held.until is None else written_until(held.until),
        "ended": ended,
        "note": held.note,
        "origin": {"source": held.origin.source, "line": held.origin.line or None, "column": held.origin.column or None},
    }
