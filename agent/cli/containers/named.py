"""Attachments by the names that users type: as they are, or in lower case, as that of an app with capitals has it."""

from agent.client.connection import Client, Refused, Reply, attachment_address
from agent.model.names import lowered


def attached(client: Client, name: str) -> Reply:
    """The attachment of that name. Raises Refused where there is none."""
    try:
        return client.ask("GET", attachment_address(name))
    except Refused:
        if name == lowered(name):
            raise
    return client.ask("GET", attachment_address(lowered(name)))


def name_of(client: Client, name: str) -> str:
    """That of the attachment that is meant; `name` itself where there is none, for the agent to say so."""
    if name == lowered(name):
        return name
    try:
        return attached(client, name).fields.text("name")
    except Refused:
        return name
