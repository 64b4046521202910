"""What the kernel lets into a container, and out to other cells: rights, as the mode of mutual TLS turns them into ports. Pure.

A tunnel ends on one port, whatever ports its streams are for: the kernel lets a tag in that may reach any of them, and Envoy
judges each stream. The rules and the judge of live flows (`flows/judge.py`) both ask here, and so agree. Cached for as long as
the rights live: every turn asks for those of all containers.
"""

from collections.abc import Iterator
from dataclasses import replace

from dataplane.memo import Memo
from dataplane.state import INBOUND_PORT, OUTBOUND_PORT, Allow, HostState, MutualTls

Ranges = Iterator[tuple[int, int]]

_known: Memo[frozenset[Allow], dict[tuple[bool, bool, int], frozenset[Allow]]] = Memo(lambda _: {})


def admitted(allows: frozenset[Allow], mutual_tls: MutualTls, *, tls_port: int) -> frozenset[Allow]:
    """The packets that get to a container whose rights are `allows`, as rights: with tunnels, and perhaps without plain TCP.

    While Envoy serves tunnels, a right on any TCP port that an app can have opens INBOUND_PORT, and none opens INBOUND_PORT or
    OUTBOUND_PORT by naming it. The port that ends one-way TLS passes under its own right in every mode, and so does UDP.
    The same object for the same `allows`.
    """
    if mutual_tls.plain and not mutual_tls.served:
        return allows
    of_modes, key = _known.of(allows), (mutual_tls.served, mutual_tls.plain, tls_port)
    if key not in of_modes:
        # always a new object: one that is its own result would never be forgotten
        of_modes[key] = frozenset(
            replace(each, first=first, last=last)
            for each in allows
            for first, last in _passing(each, served=mutual_tls.served, plain=mutual_tls.plain, tls_port=tls_port)
        )
    return of_modes[key]


def beyond_the_cell(state: HostState) -> tuple[int, ...] | None:
    """The TCP ports of other cells' containers that this cell lets its own call; None where it leaves that to those cells."""
    if state.mutual_tls.plain:
        return None
    return tuple(sorted({state.tls_port} | ({INBOUND_PORT} if state.mutual_tls.served else set())))


def _passing(allow: Allow, *, served: bool, plain: bool, tls_port: int) -> Ranges:
    if allow.protocol != "tcp":
        yield allow.first, allow.last
        return
    ours = {OUTBOUND_PORT, INBOUND_PORT} if served else set()
    reserved = sum(allow.first <= port <= allow.last for port in ours | {tls_port})
    tunnelled = served and allow.last - allow.first + 1 > reserved
    if plain:
        # a range around INBOUND_PORT has it by its other ports, and stays in one piece; in an audit tunnels pass by their own
        yield from _without(allow, {OUTBOUND_PORT} if tunnelled else ours)
    elif allow.first <= tls_port <= allow.last:
        yield tls_port, tls_port
    if tunnelled and (allow.audit or not (plain and allow.first <= INBOUND_PORT <= allow.last)):
        yield INBOUND_PORT, INBOUND_PORT


def _without(allow: Allow, ports: set[int]) -> Ranges:
    first = allow.first
    for port in sorted(each for each in ports if allow.first <= each <= allow.last):
        if first < port:
            yield first, port - 1
        first = port + 1
    if first <= allow.last:
        yield first, allow.last
