"""`/v1/config`: what the agent runs by, key by key, and taking up what agent.yaml says by now."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from agent.config.config import DEFAULT
from agent.config.written import KeyChange
from agent.control.config_in_force import ConfigInForce
from agent.control.enforcement import Enforcement
from agent.control.errors import answer


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as it is in force, as YAML on one line. `origin` is `default`, or the file and line that say so."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A key that has another value in the file. `live`: a reload takes it; else the agent has to be started again."""

    key: str
    running: str
    file: str
    live: bool


class ConfigApi:
    """The handlers."""

    def __init__(self, in_force: ConfigInForce, *, enforcement: Enforcement) -> None:
        self._in_force = in_force
        self._enforcement = enforcement

    def routes(self) -> list[web.RouteDef]:
        """One for each method and address."""
        return [web.get("/v1/config", self.show), web.post("/v1/config/reload", self.reload)]

    async def show(self, _request: web.Request) -> web.Response:
        """All keys, and those that the file says otherwise."""
        config = self._in_force.config
        path = None if config.file is None else config.file.path
        keys = [KeyView(key, value, config.origins.get(key, DEFAULT)) for key, value in self._in_force.values().items()]
        problems = [{"what": each.what, "hint": each.hint} for each in self._in_force.problems()]
        differing = _views(self._in_force.differing())
        return answer({"file": path, "keys": keys, "differing": differing, "problems": problems})

    async def reload(self, _request: web.Request) -> web.Response:
        """What is `taken` is in force when this is answered; `needs_restart` is as it was."""
        found = self._in_force.reload()
        await self._in_force.reread()
        await self._enforcement.next()
        taken, others = [each for each in found if each.live], [each for each in found if not each.live]
        return answer({"taken": _views(taken), "needs_restart": _views(others)})


def _views(found: Sequence[KeyChange]) -> list[ChangeView]:
    return [ChangeView(each.key, running=each.before, file=each.after, live=each.live) for each in found]
