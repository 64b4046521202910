"""An attachment as a value: one container's place on the overlay, from the request that asks for it to its last phase.

A request is checked when it is made, so whatever is stored or sent to the dataplane has passed here.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path

from agent.errors import InvalidInput
from agent.model.app_port import TCP, AppPort, check_port
from agent.model.engine_container import EngineContainer
from agent.model.key_owner import ROOT, KeyOwner
from agent.model.names import HOSTNAME, AppName
from agent.model.owner import Owner
from agent.model.publication import Publication, refuse_overlap
from dataplane.state import NO_LIMITS, Limits, TargetHttp

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
# The kernel's rule (IFNAMSIZ 16, no '/', ':' or white space) made narrower: the name also stands in sysctl paths.
INTERFACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}")
INTERFACES_TAKEN = frozenset({"lo", "all", "default"})
NAMED = (Path("/run/netns"), Path("/var/run/netns"))
DEFAULT_TARGET = 8080
INSTANCE_LIMIT = 65535


class Phase(Enum):
    """How far it is. An agent that finds ATTACHING or DETACHING at its start undoes or ends what a crash cut short."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One container on the overlay. `interface` is the name inside, `routes` are host names, `owner` ends its life.

    `tls_target` is the port behind the TLS port, `tls_http` what is spoken to it; `key_owner` may read the instance's key.
    `guid` is its own for as long as it lives; `services` are apps that its environment names though they may not be known yet.
    `netns_name` is the name of its namespace for `ip netns`, where that is to have a resolv.conf; else empty. `publish` are
    ports of the host that lead to it.
    """

    name: str
    app: AppName
    instance: int
    address: IPv4Address
    interface: str
    ports: tuple[AppPort, ...]
    routes: tuple[str, ...]
    tls_target: int
    tls_http: TargetHttp
    owner: Owner
    phase: Phase
    guid: str
    key_owner: KeyOwner = ROOT
    services: tuple[AppName, ...] = ()
    netns_name: str = ""
    limits: Limits = NO_LIMITS
    publish: tuple[Publication, ...] = ()

    def tcp_ports(self) -> frozenset[int]:
        """Those that calls are meant for."""
        return _tcp_ports(self.ports, self.tls_target)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """What a caller asks for. `netns` is an absolute path as the caller sees it; `instance` None means the lowest free, and
    `address` is what the container had before, which it gets where it is free.

    `owner_pid` None: the namespace at `netns` is the owner, as the `container` of an engine if one has asked.
    Raises InvalidInput at the first field that is wrong.
    """

    name: str
    app: AppName
    netns: Path
    instance: int | None = None
    interface: str = "eth0"
    ports: tuple[AppPort, ...] = field(default=())
    routes: tuple[str, ...] = field(default=())
    tls_target: int | None = None
    tls_http: TargetHttp = TargetHttp.NONE
    owner_pid: int | None = None
    key_owner: KeyOwner = ROOT
    services: tuple[AppName, ...] = ()
    netns_resolv_conf: bool = False
    limits: Limits = NO_LIMITS
    publish: tuple[Publication, ...] = ()
    container: EngineContainer | None = None
    address: IPv4Address | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_netns(self.netns)
        if self.netns_resolv_conf:
            check_netns_name(self.netns)
        check_interface(self.interface)
        if self.tls_target is not None:
            check_port(self.tls_target)
        for route in self.routes:
            check_route(route)
        refuse_overlap(self.publish)
        if self.instance is not None and not 0 <= self.instance <= INSTANCE_LIMIT:
            raise InvalidInput(f"instance {self.instance} is out of range", hint=f"use 0 to {INSTANCE_LIMIT}")
        if self.owner_pid is not None and self.owner_pid < 1:
            raise InvalidInput(f"{self.owner_pid} is not a process id", hint="leave it out, or name a process")

    @property
    def netns_name(self) -> str:
        """See Attachment."""
        return self.netns.name if self.netns_resolv_conf else ""

    def target(self) -> int:
        """The port behind the TLS port."""
        return target_port(self.tls_target, ports=self.ports)

    def tcp_ports(self) -> frozenset[int]:
        """Those that calls are meant for."""
        return _tcp_ports(self.ports, self.target())


def _tcp_ports(ports: tuple[AppPort, ...], target: int) -> frozenset[int]:
    return frozenset({target, *(each.number for each in ports if each.protocol == TCP)})


def target_port(tls_target: int | None, *, ports: tuple[AppPort, ...]) -> int:
    """Where TLS leads when it is terminated: the port asked for, else the first of TCP, else 8080."""
    if tls_target is not None:
        return tls_target
    return next((each.number for each in ports if each.protocol == TCP), DEFAULT_TARGET)


def check_name(name: str) -> str:
    """`name` itself, or InvalidInput: an attachment's name also stands in paths and listener names."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is not an attachment's name",
            hint="begin with a letter or digit, then letters, digits, '_', '.' and '-', 64 characters at most",
        )
    return name


def check_netns(path: Path) -> None:
    """InvalidInput unless absolute: the agent's working folder is not the caller's."""
    if not path.is_absolute() or "\0" in str(path):
        raise InvalidInput(f"{str(path)!r} is not an absolute path to a namespace", hint="e.g. /run/netns/web")


def check_netns_name(path: Path) -> None:
    """InvalidInput for a namespace that `ip netns` has no name for."""
    if path.parent not in NAMED or path.name in ("", ".", ".."):
        raise InvalidInput(
            f"'{path}' is no namespace of 'ip netns', so none that it could have a resolv.conf for",
            hint="those are in /run/netns; for others leave --netns-resolv-conf out",
        )


def check_interface(name: str) -> None:
    """InvalidInput for a name that a container's end cannot have."""
    if name in INTERFACES_TAKEN or not INTERFACE.fullmatch(name):
        raise InvalidInput(f"{name!r} cannot be an interface's name", hint="e.g. eth0; 15 characters at most")


def check_route(route: str) -> None:
    """InvalidInput for what is not a DNS name of at least two labels."""
    if "*" in route:
        raise InvalidInput(f"'{route}' is not a route: a route is one name", hint="list each name, e.g. backend.apps.internal")
    if len(route) > 253 or "." not in route or not HOSTNAME.fullmatch(route):
        raise InvalidInput(
            f"{route!r} is not a route",
            hint="write a DNS name in lower case below a route domain, e.g. backend.apps.internal",
        )
