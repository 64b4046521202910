"""Sample values of the model, with everything that does not matter filled in."""

from ipaddress import IPv4Address
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

from agent.config.config import Dns
from agent.identity.names import NamesHeld, Naming
from agent.model.app_port import AppPort
from agent.model.attachment import Attachment, AttachRequest, Phase
from agent.model.names import AppName
from agent.model.owner import Owner, ProcessOwner
from agent.model.routes import RouteDomains, Routes
from dataplane.state import TargetHttp

ROUTE_DOMAINS = RouteDomains(("apps.internal",), own="cell.internal")
NO_NAMES = NamesHeld(Routes(), {})
NAMING = Naming(Dns(), lambda: NO_NAMES)
OWNER = ProcessOwner(pid=4711, started=123456, boot_id="b1")
FIRST, SECOND = IPv4Address("10.255.1.2"), IPv4Address("10.255.1.3")


def app(text: str) -> AppName:
    """`shop/web` or `web` within acme/shop."""
    return AppName.parse("/".join(["acme", "shop", *text.split("/")][-3:]))


WEB, API = app("web"), app("api")


def request(name: str, *, of: str = "web", instance: int | None = None) -> AttachRequest:
    """A request for an attachment of that name."""
    return AttachRequest(name=name, app=app(of), netns=Path("/run/netns/x"), instance=instance)


def attachment(
    app: AppName, *, address: IPv4Address, name: str | None = None, instance: int = 0, phase: Phase = Phase.ATTACHED,
    owner: Owner = OWNER,
) -> Attachment:  # fmt: skip
    """An attachment of one port, named like its app unless it has a name of its own."""
    return Attachment(
        name=name or app.app, app=app, instance=instance, address=address, interface="eth0", ports=(AppPort(8080),), routes=(),
        tls_target=8080, tls_http=TargetHttp.NONE, owner=owner, phase=phase,
        guid=str(uuid5(NAMESPACE_DNS, f"{name or app.app} at {address}")),
    )  # fmt: skip
