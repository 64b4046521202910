"""Changes of policies that were made on the page, each with what it did and how it was before, so that it can be undone.

A change is what `policy apply` and `policy delete` make of the store. It is shown before it is made, by the agent itself.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, cast

from pydantic import Field, model_validator

from agent.client.connection import quoted
from agent.control.bodies import Body
from agent.ui.agent_link import AgentLink, Answered, failed

KEPT: Final = 100
ABSENT: Final = 404
SHOWN_ALONE: Final = ("origin", "ended")
Json = Mapping[str, object]


class Asked(Body):
    """A change as the page asks for it: an allowance, as for `cellnet policy allow`, or a stored policy's name to delete."""

    source: str = Field(default="", alias="from", max_length=300)
    to: str = Field(default="", max_length=300)
    ports: tuple[str, ...] = Field(default=(), max_length=64)
    note: str = Field(default="", max_length=1000)
    delete: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def one_of_both(self) -> "Asked":
        """Not both, and not neither."""
        if bool(self.delete) == bool(self.source or self.to or self.ports):
            raise ValueError("either from, to and ports, or delete")
        return self

    def proposal(self) -> Json:
        """As `POST /v1/policies/diff` takes it."""
        return {"names": [self.delete]} if self.delete else {"document": self.document()}

    def document(self) -> str:
        """The policy, as a file has it. What is wrong with it the agent says."""
        rule: dict[str, object] = {"from": self.source, "to": self.to}
        for port in self.ports:
            protocol, _, number = port.partition("/")
            if protocol == "icmp":
                rule["icmp"] = number
            else:
                cast("list[str]", rule.setdefault(protocol, [])).append(number)
        return json.dumps({"policies": [rule | ({"note": self.note} if self.note else {})]}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One that was made. `before` is the policy as it was and `after` as it was left, None where there was none; `diff` is what
    was said of it before.
    """

    number: int
    at: str
    kind: Literal["allow", "delete", "undo"]
    name: str
    before: Json | None
    after: Json | None
    diff: Json
    undone: bool = False


class PolicyChanges:
    """Makes them and remembers them. `now` is the moment, as the API writes it; `rights` is read anew for each change."""

    def __init__(self, agent: AgentLink, *, now: Callable[[], str], rights: Callable[[], Json] = dict) -> None:
        self._agent = agent
        self._now = now
        self._rights = rights
        self._made: deque[PolicyChange] = deque(maxlen=KEPT)
        self._count = 0

    @property
    def made(self) -> tuple[PolicyChange, ...]:
        """The newest first."""
        return tuple(self._made)[::-1]

    async def preview(self, asked: Asked) -> Answered:
        """What it would do."""
        return await self._agent.ask("POST", "/v1/policies/diff", asked.proposal())

    async def make(self, asked: Asked) -> Answered:
        """Make it. Answers with the change, which holds what the agent said of it just before."""
        seen = await self.preview(asked)
        if not seen.is_well:
            return seen
        diff = _object(seen)
        if not asked.delete and not diff["added"]:
            return failed(409, "Conflict", "the store has this very policy already", hint="there is nothing to do")
        after = None if asked.delete else _rule(cast("list[Json]", diff["added"])[0])
        name = asked.delete if after is None else str(after["name"])
        held = await self._stored(name)
        if not _is_known(held):
            return held
        if after is None:
            done = await self._agent.ask("DELETE", _address(name), self._rights())
        else:
            done = await self._agent.ask("POST", "/v1/policies/apply", {"document": asked.document(), **self._rights()})
        made = PolicyChange(0, "", "delete" if after is None else "allow", name, _policy(held), after, diff)
        return self._remembered(done, made)

    async def preview_undo(self, number: int) -> Answered:
        """What undoing it would do."""
        found = await self._undoable(number)
        return found if isinstance(found, Answered) else await self._agent.ask("POST", "/v1/policies/diff", _undoing(found))

    async def undo(self, number: int) -> Answered:
        """Have the policy as it was before: with its earlier text, or not there."""
        found = await self._undoable(number)
        if isinstance(found, Answered):
            return found
        seen = await self._agent.ask("POST", "/v1/policies/diff", _undoing(found))
        if not seen.is_well:
            return seen
        method, body = ("DELETE", {}) if found.before is None else ("PUT", _rule(found.before))
        done = await self._agent.ask(method, _address(found.name), {**body, **self._rights()})
        if done.is_well:
            self._made = deque((replace(each, undone=True) if each is found else each for each in self._made), maxlen=KEPT)
        made = PolicyChange(0, "", "undo", found.name, found.after, found.before, _object(seen))
        return self._remembered(done, made)

    async def _undoable(self, number: int) -> PolicyChange | Answered:
        """The change, if the policy is still as it has left it: what others have made of it since is theirs."""
        found = self._found(number)
        if isinstance(found, Answered):
            return found
        held = await self._stored(found.name)
        if not _is_known(held):
            return held
        now = _policy(held)
        if (now and _rule(now)) != (found.after and _rule(found.after)):
            what = f"{found.name} was {'deleted' if now is None else 'changed'} since then, not by this change"
            return failed(409, "Conflict", what, hint="see 'cellnet events --store', and change it as it is now")
        return found

    def _found(self, number: int) -> PolicyChange | Answered:
        found = next((each for each in self._made if each.number == number), None)
        if found is None:
            return failed(404, "NotFound", f"there is no change {number}", hint="it may be too long ago")
        if found.undone:
            return failed(409, "Conflict", "it is undone already", hint="undo the undoing to have it again")
        return found

    async def _stored(self, name: str) -> Answered:
        return await self._agent.ask("GET", _address(name))

    def _remembered(self, done: Answered, change: PolicyChange) -> Answered:
        if not done.is_well:
            return done
        self._count += 1
        made = replace(change, number=self._count, at=self._now())
        self._made.append(made)
        return Answered(200, json.dumps(asdict(made)).encode())


def _is_known(held: Answered) -> bool:
    """Whether it says that there is a policy, or that there is none."""
    return held.is_well or held.status == ABSENT


def _policy(held: Answered) -> Json | None:
    return _object(held) if held.is_well else None


def _undoing(change: PolicyChange) -> Json:
    if change.before is None:
        return {"names": [change.name]}
    return {"document": json.dumps({"policies": [_rule(change.before)]}, ensure_ascii=False)}


def _rule(view: Json) -> Json:
    """What is shown of a policy as it is written."""
    return {key: value for key, value in view.items() if key not in SHOWN_ALONE and value not in (None, "", [])}


def _object(answer: Answered) -> Json:
    return cast("Json", json.loads(answer.body))


def _address(name: str) -> str:
    return f"/v1/policies/{quoted(name)}"
