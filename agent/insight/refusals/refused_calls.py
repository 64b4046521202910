"""From calls that Envoy has refused to denials: in tunnels nothing of them is seen in the kernel."""

from collections.abc import Iterable
from typing import Final

from agent.envoy.refused_calls import app_of
from agent.insight.refusals.denied import WOULD, Denied, Pair, Reason
from agent.insight.refusals.tried_calls import TriedCalls, TriedWay
from dataplane.envoy.refusal import Check, Refusal

REASONS: Final = {
    Check.RIGHTS: Reason.POLICY,
    Check.AUDIT: Reason.AUDIT,
    Check.RATE: Reason.LIMIT,
    Check.CONNECTIONS: Reason.LIMIT,
    Check.MEMORY: Reason.LIMIT,
}
"""Those that the kernel has, too; of the others the words say which."""
WORDS: Final = {Check.RIGHTS: "", Check.AUDIT: WOULD}


def tell(refusals: Iterable[Refusal], denied: Denied, tried: TriedCalls) -> None:
    """What Envoy reports, one by one. Tunnels that were not taken are told elsewhere (`untaken_tunnels.py`)."""
    for each in refusals:
        if each.check is Check.TUNNEL:
            continue
        reason = REASONS.get(each.check, Reason.TUNNEL)
        source = app_of(each.caller) if each.verified and each.caller else str(each.source)
        pair = Pair(source, app_of(each.callee) or str(each.destination), "tcp", each.port, reason)
        words = WORDS.get(each.check, f"{each.check}: {each.words}")
        ends = str(each.source), str(each.destination)
        is_tried = tried.take(TriedWay(each.source, each.destination, each.port))
        denied.add(pair, source_address=ends[0], to_address=ends[1], words=words, tried=is_tried)
