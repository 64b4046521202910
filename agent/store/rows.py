"""Attachments as rows of the ledger and back."""

import json
import sqlite3
from dataclasses import asdict
from ipaddress import IPv4Address

from pydantic import TypeAdapter

from agent.model.app_port import AppPort
from agent.model.attachment import Attachment, Phase
from agent.model.key_owner import KeyOwner
from agent.model.names import AppName
from agent.model.owner import Owner
from agent.model.publication import Publication
from dataplane.state import Limits, TargetHttp

INSERT = """INSERT INTO attachments VALUES (
  :name, :app, :instance, :address, :interface, :ports, :routes, :tls_target, :tls_http, :owner, :phase,
  :key_uid, :key_gid, :guid, :services, :netns_name, :limits, :publish)"""
OWNER: TypeAdapter[Owner] = TypeAdapter(Owner)  # the keys of its JSON show the kind


def to_row(attachment: Attachment) -> dict[str, str | int | None]:
    """What INSERT takes."""
    return {
        "name": attachment.name,
        "app": str(attachment.app),
        "instance": attachment.instance,
        "address": int(attachment.address),
        "interface": attachment.interface,
        "ports": json.dumps([each.json for each in attachment.ports]),
        "routes": json.dumps(attachment.routes),
        "tls_target": attachment.tls_target,
        "tls_http": int(attachment.tls_http),
        "owner": OWNER.dump_json(attachment.owner).decode(),
        "phase": attachment.phase.value,
        "key_uid": attachment.key_owner.uid,
        "key_gid": attachment.key_owner.gid,
        "guid": attachment.guid,
        "services": json.dumps(list(map(str, attachment.services))),
        "netns_name": attachment.netns_name,
        "limits": json.dumps(asdict(attachment.limits)),
        "publish": json.dumps(list(map(str, attachment.publish))),
    }


def from_row(row: sqlite3.Row) -> Attachment:
    """Raises ValueError, KeyError or TypeError for a row that cellnet has not written."""
    return Attachment(
        name=row["name"],
        app=AppName.parse(row["app"]),
        instance=row["instance"],
        address=IPv4Address(row["address"]),
        interface=row["interface"],
        ports=tuple(map(AppPort.of, json.loads(row["ports"]))),
        routes=tuple(json.loads(row["routes"])),
        tls_target=row["tls_target"],
        tls_http=TargetHttp(row["tls_http"]),
        owner=OWNER.validate_json(row["owner"]),
        phase=Phase(row["phase"]),
        guid=row["guid"],
        key_owner=KeyOwner(row["key_uid"], row["key_gid"]),
        services=tuple(map(AppName.parse, json.loads(row["services"]))),
        netns_name=row["netns_name"],
        limits=Limits(**json.loads(row["limits"])),
        publish=tuple(map(Publication.parse, json.loads(row["publish"]))),
    )
