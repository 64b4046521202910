"""An agent of 500 apps that exist on paper alone, for the page of `cellnet ui`: it answers what the page asks, at once."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from aiohttp import web

APPS, PAIRS, OF_A_SPACE = 500, 2_000, 25
WITHIN_A_SPACE = 0.8  # of the pairs
NOW = "2030-01-02T03:04:05Z"


def names() -> Sequence[str]:
    """Those of the apps."""
    return [f"acme/team-{number // OF_A_SPACE}/app-{number % OF_A_SPACE}" for number in range(APPS)]


def pairs() -> Sequence[tuple[str, str]]:
    """Who may reach whom, the same in every run."""
    chance, apps = random.Random(7), names()
    found = set[tuple[str, str]]()
    while len(found) < PAIRS:
        number = chance.randrange(APPS)
        space = number // OF_A_SPACE * OF_A_SPACE
        other = space + chance.randrange(OF_A_SPACE) if chance.random() < WITHIN_A_SPACE else chance.randrange(APPS)
        if other != number:
            found.add((apps[number], apps[other]))
    return sorted(found)


def answers() -> Mapping[str, object]:
    """By address."""
    allowed = [{"from": source, "to": to, "ports": ["tcp/8080"], "mode": None} for source, to in pairs()]
    return {
        "/v1/apps": list(map(_app, names(), range(APPS))),
        "/v1/policies": [_policy(f"p-{number}", each["from"], each["to"]) for number, each in enumerate(allowed)],
        "/v1/policies/matrix": allowed,
        "/v1/flows": {"flows": [_flow(source, to) for source, to in pairs()[::10]]},
        "/v1/denied": {"number": 0, "lost": 0, "denied": []},
        "/v1/cells": [],
        "/v1/status": {
            "ok": True, "problems": [], "cell": {"name": "cell-1", "attachments": APPS}, "denied": {"last_minute": 0},
            "store": {"kind": "sqlite", "location": ""}, "peers": [], "ca": None, "repairs": 0, "cuts": 0,
        },
    }  # fmt: skip


@contextlib.contextmanager
def answering(path: Path) -> Iterator[None]:
    """At the socket `path`, for as long as the context lasts."""
    ready, content = threading.Event(), answers()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path not in content:
            return web.json_response({"error": {"kind": "NotFound", "what": request.path, "hint": ""}}, status=404)
        return web.json_response(content[request.path])

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{rest:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def _app(name: str, number: int) -> Mapping[str, object]:
    address = str(IPv4Address("10.255.0.0") + number)
    instance = {
        "instance": 0, "cell": "cell-1", "name": f"app-{number}", "address": address, "ports": [8080], "routes": [],
        "ready": True,
    }  # fmt: skip
    return {"app": name, "routes": [], "instances": [instance]}


def _policy(name: str, source: object, to: object) -> Mapping[str, object]:
    origin = {"source": "store", "line": None, "column": None}
    return {
        "name": name, "from": [source], "to": to, "tcp": ["8080"], "udp": [], "icmp": None, "mode": None, "until": None,
        "ended": False, "note": "", "origin": origin,
    }  # fmt: skip


def _flow(source: str, to: str) -> Mapping[str, object]:
    return {
        "from": source, "to": to, "protocol": "tcp", "port": 8080, "from_port": 40000, "state": "open", "policy": "",
        "origin": "",
        "sent": None, "received": None, "seconds": None, "at": NOW,
    }  # fmt: skip
