"""The policies of a fake cell: those of its list."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import InvalidInput
from agent.insight.foreseen_cuts import ForeseenCuts
from agent.model.credentials import StoreCredentials
from agent.model.outside import NOTHING_INSIDE
from agent.model.policy import Policy
from agent.policy.endings import Endings
from agent.policy.in_force import PoliciesInForce
from agent.policy.language.language import allowed, parse_applied
from agent.policy.proposal import Proposal, Written
from agent.policy.rights.outside import OutsideResolver
from agent.policy.rights.resolve import PolicyResolver

if TYPE_CHECKING:
    from tests.testlib.fakes.cell import FakeCell


class FakePolicies(PoliciesInForce):
    """Those of the cell's list."""

    def __init__(self, cell: "FakeCell") -> None:
        self.cell = cell
        self._resolver, self._outside = PolicyResolver(), OutsideResolver()
        self._endings = Endings(Path("/nowhere/latest-time"), now=lambda: 0.0)

    async def written(self) -> tuple[Policy, ...]:
        return self.cell.policies()

    async def from_store(self) -> tuple[Policy, ...]:
        return tuple(each for each in self.cell.policies() if not each.origin.line)

    async def if_changed(self, proposal: Proposal) -> tuple[tuple[Policy, ...], tuple[Policy, ...]]:
        return self.cell.policies(), proposal.on(Written(Path("/etc"), (), await self.from_store(), NOTHING_INSIDE))

    async def cuts(self, _policies: tuple[Policy, ...]) -> ForeseenCuts:
        return ForeseenCuts()

    async def allow(
        self, source: str, *, to: str, ports: tuple[str, ...], name: str | None, writer: StoreCredentials | None,
        audit: bool = False, until: datetime | None = None, note: str = "",
    ) -> str:  # fmt: skip
        await self.cell.step()
        self.cell.operators.append(writer)
        made = name or f"{source.split('/')[-1]}-to-{to.split('/')[-1]}"
        self.cell.rules.append(replace(allowed(source, to, ports, audit=audit, until=until, note=note), name=made))
        return made

    async def apply(self, document: str, *, writer: StoreCredentials | None) -> tuple[str, ...]:
        await self.cell.step()
        self.cell.operators.append(writer)
        if "policies" not in document:
            raise InvalidInput("<policies>:1:1: unknown key 'polices'\n  polices: []\n  ^", hint="did you mean 'policies'?")
        if not self.cell.applies:
            return ("from-a-document",)
        found = {each.name: each for each in parse_applied(document.encode(), source="policies")}
        self.cell.rules = [*(each for each in self.cell.rules if each.name not in found), *found.values()]
        return tuple(found)

    async def delete(self, name: str, *, writer: StoreCredentials | None) -> bool:
        self.cell.operators.append(writer)
        kept = [each for each in self.cell.rules if each.name != name or each.origin.line]
        gone, self.cell.rules = len(kept) < len(self.cell.rules), kept
        return gone

    async def accept_loss(self, *, writer: StoreCredentials | None) -> tuple[str, ...]:
        self.cell.operators.append(writer)
        return ("held",)

    async def settle_files(self) -> tuple[str, ...]:
        await self.cell.step()
        return self.cell.missing

    def left_out(self) -> tuple[str, ...]:
        return ()
