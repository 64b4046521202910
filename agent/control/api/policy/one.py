"""`/v1/policies/{name}`: one policy of the store as an object that is there or not, for tools that declare what shall be."""

import json
from collections.abc import Mapping

from aiohttp import web
from pydantic import ConfigDict

from agent.control.api.policy.view import view
from agent.control.bodies import OperatorBody, read_body
from agent.control.enforced_change import Enforced
from agent.control.errors import answer, not_found
from agent.errors import InvalidInput
from agent.policy.in_force import PoliciesInForce

SHOWN_ALONE = frozenset({"origin", "ended"})
"""Of what is shown what cannot be given: a tool may send back what it got."""
NONE_OF_IT: tuple[object, ...] = (None, "", [])


class RuleBody(OperatorBody):
    """`PUT`: the keys of a rule of a policy file, which the language judges."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    def document(self, name: str) -> str:
        """As a policy file of this one rule. Raises InvalidInput where the body names another."""
        given: Mapping[str, object] = self.model_extra or {}
        if given.get("name", name) != name:
            raise InvalidInput(f"the address is of '{name}', the body of '{given['name']}'", hint="give one name")
        rule = {key: value for key, value in given.items() if key not in SHOWN_ALONE and value not in NONE_OF_IT}
        return json.dumps({"policies": [{**rule, "name": name}]}, ensure_ascii=False)


class OnePolicyApi:
    """The handlers. A change is answered when its effect is there; the same one again changes nothing."""

    def __init__(self, policies: PoliciesInForce, *, enforced: Enforced) -> None:
        self._policies = policies
        self._enforced = enforced

    def routes(self) -> list[web.RouteDef]:
        """One for each method."""
        address = "/v1/policies/{name}"
        return [web.get(address, self.show), web.put(address, self.put), web.delete(address, self.delete)]

    async def show(self, request: web.Request) -> web.Response:
        """As it is listed."""
        return await self._shown(request.match_info["name"])

    async def put(self, request: web.Request) -> web.Response:
        """Into the store, in the place of what has its name there."""
        name, body = request.match_info["name"], await read_body(RuleBody, request)
        await self._policies.apply(body.document(name), writer=body.credentials())
        await self._enforced(request, "put", (name,), writer=body.credentials())
        return await self._shown(name)

    async def delete(self, request: web.Request) -> web.Response:
        """Out of the store."""
        name, body = request.match_info["name"], await read_body(OperatorBody, request)
        gone = await self._policies.delete(name, writer=body.credentials())
        if not gone:
            return _missing(name)
        await self._enforced(request, "deleted", (name,), writer=body.credentials())
        return answer({"deleted": True})

    async def _shown(self, name: str) -> web.Response:
        holding = await self._policies.in_force()
        found = next((each for each in await self._policies.from_store() if each.name == name), None)
        return _missing(name) if found is None else answer(view(found, ended=all(each is not found for each in holding)))


def _missing(name: str) -> web.Response:
    return not_found(f"there is no policy '{name}' in the store", hint="see 'cellnet policy list'")
