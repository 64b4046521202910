"""Attachments as rows of the ledger and back."""

import json
import sqlite3
from ipaddress import IPv4Address
from pathlib import Path

from agent.model.attachment import Attachment, Phase
from agent.model.names import AppName
from agent.model.owner import NamespaceOwner, Owner, ProcessOwner
from dataplane.state import TargetHttp

INSERT = """INSERT INTO attachments VALUES (
  :name, :app, :instance, :address, :interface, :ports, :routes, :tls_target, :tls_http, :owner, :phase)"""


def to_row(attachment: Attachment) -> dict[str, str | int]:
    """What INSERT takes."""
    return {
        "name": attachment.name,
        "app": str(attachment.app),
        "instance": attachment.instance,
        "address": int(attachment.address),
        "interface": attachment.interface,
        "ports": json.dumps(attachment.ports),
        "routes": json.dumps(attachment.routes),
        "tls_target": attachment.tls_target,
        "tls_http": int(attachment.tls_http),
        "owner": owner_text(attachment.owner),
        "phase": attachment.phase.value,
    }


def from_row(row: sqlite3.Row) -> Attachment:
    """Raises ValueError, KeyError or TypeError for a row that cellnet has not written."""
    return Attachment(
        name=row["name"],
        app=AppName.parse(row["app"]),
        instance=row["instance"],
        address=IPv4Address(row["address"]),
        interface=row["interface"],
        ports=tuple(json.loads(row["ports"])),
        routes=tuple(json.loads(row["routes"])),
        tls_target=row["tls_target"],
        tls_http=TargetHttp(row["tls_http"]),
        owner=owner_of(row["owner"]),
        phase=Phase(row["phase"]),
    )


def owner_text(owner: Owner) -> str:
    """As JSON; its keys show the kind."""
    match owner:
        case ProcessOwner():
            return json.dumps({"pid": owner.pid, "started": owner.started, "boot_id": owner.boot_id})
        case NamespaceOwner():
            place = {"path": str(owner.path), "device": owner.device, "inode": owner.inode}
            return json.dumps(place | {"boot_id": owner.boot_id})


def owner_of(text: str) -> Owner:
    """The reverse of `owner_text`."""
    found = json.loads(text)
    if "pid" in found:
        return ProcessOwner(pid=found["pid"], started=found["started"], boot_id=found["boot_id"])
    return NamespaceOwner(Path(found["path"]), found["device"], found["inode"], found["boot_id"])
