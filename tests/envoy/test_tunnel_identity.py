"""Many apps through one Envoy: each connection is its caller's own, judged by its caller's rights, however many there are."""

import asyncio
from collections.abc import Iterator, Sequence
from socket import socket

import pytest

from tests.testlib.envoy import EnvoyCell, LoopThread
from tests.testlib.tunnels.crowd import FIRST, FIRST_PORT, GreetingApp, TunnelCrowd

APPS, EACH = 20, 50


@pytest.fixture
def crowd() -> Iterator[TunnelCrowd]:
    cell = EnvoyCell(connections=6000)
    cell.start()
    made = TunnelCrowd(cell, APPS)
    try:
        yield made
    finally:
        made.close()
        cell.close()


async def talk(connection: socket, words: bytes) -> tuple[bytes, bytes]:
    """What the app said first, and its echo; both empty where it was closed instead."""
    try:
        reader, writer = await asyncio.open_connection(sock=connection)
        greeting = await reader.readline()
        writer.write(words)
        echo = await reader.readexactly(len(words))
    except (OSError, asyncio.IncompleteReadError):
        return b"", b""
    return greeting, echo


@pytest.mark.usefixtures("many_files")
def test_of_1000_connections_from_20_apps_none_passes_for_another_apps(crowd: TunnelCrowd) -> None:
    loop = LoopThread()
    app = GreetingApp(crowd.api, range(FIRST_PORT, FIRST_PORT + APPS), loop)
    callers = [number for _ in range(EACH) for number in crowd.numbers]

    def all_talk(calls: Sequence[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
        connections = [crowd.dial(number, port) for number, port in calls]

        async def at_once() -> list[tuple[bytes, bytes]]:
            return await asyncio.gather(*(talk(*each) for each in zip(connections, map(words, calls), strict=True)))

        try:
            return loop.run(at_once())
        finally:
            for each in connections:
                each.close()

    def words(call: tuple[int, int]) -> bytes:
        return f"I am {FIRST + call[0]} for {call[1]}".encode()

    own = [(number, FIRST_PORT + number) for number in callers]
    others = [(number, FIRST_PORT + (number + 1) % APPS) for number in crowd.numbers]
    try:
        seen = all_talk([*own, *others])
        expected = [(f"{FIRST + number} {port}\n".encode(), words((number, port))) for number, port in own]
        assert seen[: len(own)] == expected
        assert seen[len(own) :] == [(b"", b"")] * len(others)
    finally:
        app.close()
        loop.close()
