"""The values of the service as JSON: the one place that knows the API's field names. Times are ISO 8601 in UTC."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from agent.control.service import AttachmentView, CaView, CellRow, EnvoyView, LastApply, PeerView, Status, Verdict
from agent.model.policy import Origin, Policy, Ports, Scope
from ca.show import Shown, Summary

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Object: TypeAlias = Mapping[str, Json]


def attachment(view: AttachmentView) -> Object:
    """A row of the list."""
    attached = view.attachment
    return {
        "name": attached.name,
        "app": str(attached.app),
        "instance": attached.instance,
        "address": str(attached.address),
        "ports": attached.ports,
        "routes": attached.routes,
        "interface": attached.interface,
        "tls": {"state": view.tls.state.value, "not_after": _time(view.tls.not_after)},
    }


def attachment_in_full(view: AttachmentView) -> Object:
    """A row with what a process inside needs."""
    return {**attachment(view), "environment": dict(view.environment), "pin": str(view.pin)}


def status(view: Status) -> Object:
    """`GET /v1/status`."""
    return {
        "ok": view.ok,
        "problems": [{"area": each.area, "what": each.what, "hint": each.hint} for each in view.problems],
        "cell": _cell(view),
        "store": {"kind": view.store.kind, "location": view.store.location},
        "peers": [_peer(each) for each in view.peers],
        "policies": {
            "from_files": view.policies.from_files,
            "from_store": view.policies.from_store,
            "files": view.policies.files,
            "bad_files": view.policies.bad_files,
        },
        "firewall": {"backend": view.firewall.backend, "rules": view.firewall.rules},
        "envoy": _envoy(view.envoy),
        "ca": None if view.ca is None else _ca(view.ca),
        "last_apply": None if view.last_apply is None else _apply(view.last_apply),
        "repairs": view.repairs,
        "refused_attaches": view.refused_attaches,
    }


def _cell(view: Status) -> Object:
    return {
        "name": view.cell.name,
        "overlay": str(view.cell.overlay),
        "subnet": str(view.cell.subnet),
        "mtu": view.cell.mtu,
        "attachments": view.cell.attachments,
        "version": view.cell.version,
        "pid": view.cell.pid,
        "started": _time(view.cell.started),
    }


def _peer(view: PeerView) -> Object:
    return {
        "name": view.name,
        "subnet": str(view.subnet),
        "underlay": str(view.underlay),
        "alive_since": _time(view.alive_since),
        "tunnel": None if view.tunnel is None else view.tunnel.value,
    }


def _envoy(view: EnvoyView) -> Object:
    return {"connected": view.connected, "version": view.version, "listeners": view.listeners, "rejected": view.rejected}


def _ca(view: CaView) -> Object:
    return {
        "trust_domain": view.trust_domain,
        "root_not_after": _time(view.root_not_after),
        "cell_not_after": _time(view.cell_not_after),
        "next_expiry": _time(view.next_expiry),
    }


def _apply(view: LastApply) -> Object:
    return {"at": _time(view.at), "milliseconds": round(view.milliseconds, 3), "changes": view.changes}


def policy(value: Policy) -> Object:
    """One policy, in the words of the policy file."""
    return {
        "name": value.name,
        "from": [each.value if isinstance(each, Scope) else str(each) for each in value.sources],
        "to": str(value.to),
        "tcp": _ports(value.tcp),
        "udp": _ports(value.udp),
        "origin": _origin(value.origin),
    }


def _ports(ranges: Sequence[Ports]) -> Sequence[str]:
    return [str(each) for each in ranges]


def _origin(origin: Origin) -> Object:
    """`line` is null for a policy of the store."""
    return {"source": origin.source, "line": origin.line or None, "column": origin.column or None}


def verdict(value: Verdict) -> Object:
    """The answer of `check`; `reverse` names the policy that allows the other direction."""
    by, reverse = value.by, value.reverse
    return {
        "allowed": value.allowed,
        "by": None if by is None else by.name,
        "origin": None if by is None else str(by.origin),
        "reverse": None if reverse is None else {"by": reverse.name, "origin": str(reverse.origin)},
    }


def ca(shown: Shown) -> Object:
    """`GET /v1/ca`; `bundle` is the PEM of the roots that everything here trusts."""
    return {
        "root": _certificate(shown.root),
        "cell": None if shown.cell is None else _certificate(shown.cell),
        "root_key_here": shown.root_key_here,
        "bundle": shown.bundle.decode(),
    }


def root(view: Summary) -> Object:
    """A root that all cells trust."""
    return _certificate(view)


def cell(row: CellRow) -> Object:
    """A row of `GET /v1/cells`."""
    return {
        "name": row.record.name,
        "underlay": str(row.record.underlay),
        "subnet": str(row.record.subnet),
        "alive_since": _time(row.alive_since),
        "version": row.record.version,
        "here": row.here,
    }


def _certificate(view: Summary) -> Object:
    return {
        "subject": view.subject,
        "serial": view.serial,
        "not_before": _time(view.not_before),
        "not_after": _time(view.not_after),
        "fingerprint": view.fingerprint,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
