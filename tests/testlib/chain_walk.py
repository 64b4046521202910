"""What becomes of the first packet of a flow in chains of ours, by their text alone."""

from collections.abc import Mapping
from dataclasses import dataclass

Chains = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Packet:
    """The first of a flow: its sender's tag, and where it goes."""

    tag: int
    protocol: str = "tcp"
    port: int = 80


def walked(chains: Chains, chain: str, packet: Packet) -> str | None:
    """The target that ends its way through `chain`, None if it comes back. No limit is reached on the way."""
    for rule in chains[chain]:
        words = rule.split()
        if not _fits(words, packet) or {"connlimit", "hashlimit"} & set(words):
            continue
        verb, target = words[-2:]
        if target not in chains:
            return target
        found = walked(chains, target, packet)
        if found is not None or verb == "-g":
            return found
    return None


def _fits(words: list[str], packet: Packet) -> bool:
    def after(word: str) -> str | None:
        return words[words.index(word) + 1] if word in words else None

    if (mark := after("--mark")) is not None:
        value, mask = (int(number, 16) for number in mark.split("/"))
        if packet.tag & mask != value:
            return False
    if (ports := after("--dport")) is not None:
        first, _, last = ports.partition(":")
        if not int(first) <= packet.port <= int(last or first):
            return False
    return after("-p") in (None, packet.protocol)
