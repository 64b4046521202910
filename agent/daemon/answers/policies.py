"""What the API asks about policies."""

from agent.control.api.policies import CheckResult
from agent.daemon.answers.enforcement import Enforcement
from agent.model.credentials import StoreCredentials
from agent.model.names import AppName
from agent.model.policy import Policy, Protocol
from agent.policy.in_force import PoliciesInForce


class PolicyAnswers:
    """A change is answered when its effect is there."""

    def __init__(self, policies: PoliciesInForce, *, enforcement: Enforcement) -> None:
        self._policies = policies
        self._enforcement = enforcement

    async def policies(self) -> tuple[Policy, ...]:
        """See PolicyService; here and below."""
        return await self._policies.in_force()

    async def allow_policy(
        self, source: str, *, to: str, ports: tuple[str, ...], name: str | None, credentials: StoreCredentials | None
    ) -> str:
        given = await self._policies.allow(source, to=to, ports=ports, name=name, writer=credentials)
        await self._enforcement.next()
        return given

    async def apply_policies(self, document: str, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        names = await self._policies.apply(document, writer=credentials)
        await self._enforcement.next()
        return names

    async def delete_policy(self, name: str, *, credentials: StoreCredentials | None) -> bool:
        gone = await self._policies.delete(name, writer=credentials)
        await self._enforcement.next()
        return gone

    async def accept_loss(self, *, credentials: StoreCredentials | None) -> tuple[str, ...]:
        names = await self._policies.accept_loss(writer=credentials)
        await self._enforcement.next()
        return names

    async def check(self, source: AppName, *, destination: AppName, protocol: Protocol, port: int) -> CheckResult:
        return CheckResult(
            by=await self._policies.check(source, to=destination, protocol=protocol, port=port),
            reverse=await self._policies.check(destination, to=source, protocol=protocol, port=port),
            ports=await self._policies.open_ports(source, to=destination),
        )
