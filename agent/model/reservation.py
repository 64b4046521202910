"""What a container that is not there yet will be, by the one thing that every engine says of it: its name.

Its place is kept for it from the reservation on, so that its environment is known before its engine starts it.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from agent.model.app_port import AppPort
from agent.model.attachment import AttachRequest
from agent.model.engine_container import EngineContainer
from agent.model.key_owner import ROOT, KeyOwner
from agent.model.names import AppName
from agent.model.place import Place
from agent.model.publication import Publication
from dataplane.state import NO_LIMITS, Limits, TargetHttp


@dataclass(frozen=True, slots=True)
class Reservation:
    """See AttachRequest; `instance` is the number that was asked for. `place` is None until it has one."""

    name: str
    app: AppName
    instance: int | None = None
    ports: tuple[AppPort, ...] = ()
    routes: tuple[str, ...] = ()
    tls_target: int | None = None
    tls_http: TargetHttp = TargetHttp.NONE
    key_owner: KeyOwner = ROOT
    services: tuple[AppName, ...] = ()
    limits: Limits = NO_LIMITS
    publish: tuple[Publication, ...] = ()
    place: Place | None = None

    def request(self, container: EngineContainer, *, netns: Path) -> AttachRequest:
        """What its engine's plugin asks for."""
        mine = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "place"}
        made = AttachRequest(**mine, netns=netns, interface=container.interface, container=container)
        return made if self.place is None else replace(made, instance=self.place.instance)

    @classmethod
    def of(cls, request: AttachRequest) -> "Reservation":
        """Without what is known only when the container is there."""
        return cls(**{each.name: getattr(request, each.name) for each in fields(cls) if each.name != "place"})
