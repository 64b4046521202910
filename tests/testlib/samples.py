"""Words for tests about attachments: requests and owners with everything that does not matter filled in."""

from pathlib import Path

from agent.model.attachment import AttachRequest
from agent.model.names import AppName
from agent.model.owner import ProcessOwner

OWNER = ProcessOwner(pid=4711, started=123456, boot_id="b1")


def app(text: str) -> AppName:
    """`shop/web` or `web` within acme/shop."""
    return AppName.parse("/".join(["acme", "shop", *text.split("/")][-3:]))


def request(name: str, *, of: str = "web", instance: int | None = None) -> AttachRequest:
    """A request for an attachment of that name."""
    return AttachRequest(name=name, app=app(of), netns=Path("/run/netns/x"), instance=instance)
