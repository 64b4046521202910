"""The environment of an instance's processes: its address and identity, and where the apps are that it may reach.

It is worked out when it is asked for: at an attach, for `cellnet exec`, and for the file of agent/attach/container_files.py.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.attach.service_variables import ServiceVariables, service_variables
from agent.identity.keyring import Keyring
from agent.model.attachment import Attachment
from agent.model.names import AppName
from agent.model.place import Place
from agent.model.policy import Pattern, Policy
from agent.policy.known_apps import KnownApps
from agent.policy.mistaken_names import notices
from agent.policy.rights.reach import Reach
from agent.wording import listed

KEPT = 8
"""Apps whose variables are kept: an attach asks twice, and copies of an app one after the other; of all they would be many."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Its variables by name, and what an operator should know of those that are missing."""

    variables: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """`KEY=VALUE` lines, as container engines and systemd read them."""
        return "".join(f"{name}={value}\n" for name, value in self.variables.items())


class Environments:
    """Those of this cell's instances. `policies` are those that hold on any cell, the same object while nothing changes;
    `prefixes` are those of service variables; `name_of` gives an app's DNS name.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        policies: Callable[[], Awaitable[tuple[Policy, ...]]],
        known: KnownApps,
        prefixes: Sequence[str],
        name_of: Callable[[AppName], str],
    ) -> None:
        self._keyring = keyring
        self._policies = policies
        self._known = known
        self._prefixes = tuple(prefixes)
        self._name_of = name_of
        self._reach = Reach()
        self._basis: tuple[object, object] = (None, None)
        self._worked_out: OrderedDict[tuple[AppName, tuple[AppName, ...]], ServiceVariables] = OrderedDict()

    def set_prefixes(self, prefixes: Sequence[str]) -> None:
        """From now on service variables begin with these."""
        if tuple(prefixes) != self._prefixes:
            self._prefixes = tuple(prefixes)
            self._worked_out.clear()
            self._basis = (None, None)

    async def basis(self) -> object:
        """What they depend on besides the attachments: the same object as long as that is the same."""
        if self._prefixes:
            policies, known = await self._policies(), await self._known.all()
            if self._basis[0] is not policies or self._basis[1] is not known:
                self._reach.follow(policies, known=known)
                self._basis = (policies, known)
                self._worked_out.clear()
        return self._basis

    async def of(self, held: Attachment) -> Environment:
        """As things stand now."""
        place = Place(held.address, held.instance, held.guid)
        return await self.at(place, name=held.name, app=held.app, services=held.services)

    async def at(self, place: Place, *, name: str, app: AppName, services: tuple[AppName, ...]) -> Environment:
        """That of an instance which may not be there yet."""
        found = await self._services(app, services)
        return Environment({**self._own(name, place), **found.variables}, found.warnings)

    def prepare_folders(self, name: str) -> None:
        """Of its certificates, which an engine mounts before there are any. Raises HostRefused."""
        self._keyring.prepare(name)

    def remove_folders(self, name: str) -> None:
        """Of what is not attached. Absent is fine. Raises HostRefused."""
        self._keyring.drop(name)

    def _own(self, name: str, place: Place) -> Mapping[str, str]:
        trust = self._keyring.trust
        return {
            "CF_INSTANCE_INTERNAL_IP": str(place.address),
            "CF_INSTANCE_INDEX": str(place.instance),
            "CF_INSTANCE_GUID": place.guid,
            "CF_INSTANCE_CERT": str(self._keyring.chain_of(name)),
            "CF_INSTANCE_KEY": str(self._keyring.key_of(name)),
            "CF_INSTANCE_CA": str(trust.bundle),
            "CF_SYSTEM_CERT_PATH": str(trust.path),
        }

    async def _services(self, app: AppName, services: tuple[AppName, ...]) -> ServiceVariables:
        if not self._prefixes:
            return ServiceVariables(warnings=_without_prefixes(services))
        await self.basis()
        key = (app, services)
        found = self._worked_out.pop(key, None)
        if found is None:
            reached = self._reach.of(app).union(services)
            found = service_variables(app, reached, prefixes=self._prefixes, name_of=self._name_of)
            found = replace(found, warnings=(*found.warnings, *await self._mistaken(services)))
        self._worked_out[key] = found
        if len(self._worked_out) > KEPT:
            self._worked_out.popitem(last=False)
        return found

    async def _mistaken(self, services: Iterable[AppName]) -> tuple[str, ...]:
        """An attach may ask for what comes later, so only what is like another name is probably mistyped."""
        return notices(
            (Pattern(each.org, each.space, each.app) for each in services), named=await self._known.all(), is_new=True
        )


def _without_prefixes(services: tuple[AppName, ...]) -> tuple[str, ...]:
    apps = listed(tuple(map(str, services)))
    return (f"there is no service variable for {apps}: agent.yaml has no `service_env_prefixes`",) if services else ()
