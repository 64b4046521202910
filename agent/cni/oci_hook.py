#!/bin/sh
# fmt: off
''''exec /usr/bin/python3 -IS "$0" "$@" # for a shell: what installs scripts keeps no options of python's in their first line
The hook `cellnet-oci-hook` of podman: gives a container that has the annotation `cellnet` what a plugin of a network cannot.

podman calls it before it makes the process of a container, at each start, when the container is on its network already. The
container's configuration (OCI's config.json) comes on standard input and goes on to standard output, with the environment of
the instance, its certificates and its resolver. It imports nothing but the standard library, as agent/cni/plugin.py does, and
for the same reason. A container that asks for this and cannot have it does not start. podman shows that the hook has failed and
not what it has said, so the reason stands in the host's log too.
'''
# fmt: on

from __future__ import annotations

import json
import socket
import sys
from contextlib import suppress

SOCKET = "/run/cellnet/agent.sock"
LOG = "/dev/log"
ERROR = "<27>cellnet-oci-hook: "  # daemon.err, as syslog has it
SECONDS = 10
INTERFACE = "eth0"
RESOLVER = "/etc/resolv.conf"
ID = 64
"""Characters of an id of podman's."""
DIGITS = frozenset("0123456789abcdef")
HINT = "annotate only containers on the network cellnet (docs/engines.md)"

Fields = dict[str, object]


class HookFailure(Exception):
    """Why a container cannot have what it asks for."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what}; hint: {hint}")


def fields_of(value: object) -> Fields:
    """`value` if it is an object of JSON; an empty one else."""
    return value if isinstance(value, dict) else {}


def items_of(value: object) -> list[Fields]:
    """The objects of an array."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def identity(config: Fields) -> str:
    """The container's id, which podman has in its paths alone. Raises HookFailure."""
    paths = [str(each.get("source")) for each in items_of(config.get("mounts"))]
    paths.append(str(fields_of(config.get("linux")).get("cgroupsPath")))
    for path in paths:
        for word in path.replace(":", "/").replace("-", "/").split("/"):
            if len(word) == ID and DIGITS.issuperset(word):
                return word
    raise HookFailure("the configuration does not say which container it is for", "is it podman's? see docs/engines.md")


def asked(path: str, container: str) -> Fields:
    """What the agent at `path` has of a container. Raises HookFailure."""
    request = f"GET /v1/containers/{container}/{INTERFACE} HTTP/1.0\r\n\r\n"
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect(path)
            connection.sendall(request.encode())
            while part := connection.recv(65536):
                answer += part
        found = fields_of(json.loads(answer.partition(b"\r\n\r\n")[2]))
    except (OSError, ValueError) as error:
        raise HookFailure(f"no agent of cellnet answers at {path}: {error}", "see whether it runs, and its log") from None
    if "error" in found:
        raise HookFailure(str(fields_of(found["error"]).get("what")), HINT)
    return found


def changed(config: Fields, instance: Fields) -> Fields:
    """The configuration with what the instance has; what the operator has said of a variable counts more."""
    environment, process = fields_of(instance["environment"]), fields_of(config.get("process"))
    there = process.get("env")
    lines = [str(each) for each in there] if isinstance(there, list) else []
    known = {each.partition("=")[0] for each in lines}
    lines += [f"{name}={value}" for name, value in environment.items() if name not in known]
    folders = sorted({str(environment["CF_INSTANCE_CERT"]).rpartition("/")[0], str(environment["CF_SYSTEM_CERT_PATH"])})
    mounts = [each for each in items_of(config.get("mounts")) if each.get("destination") != RESOLVER]
    mounts.append(_bound(str(fields_of(instance["dns"])["file"]), RESOLVER))
    mounts += [_bound(each, each) for each in folders]
    return {**config, "process": {**process, "env": lines}, "mounts": mounts}


def _bound(source: str, destination: str) -> Fields:
    options = ["rbind", "ro", "nosuid", "nodev", "noexec", "rprivate"]
    return {"destination": destination, "type": "bind", "source": source, "options": options}


def main() -> int:
    """The exit code."""
    try:
        config = fields_of(json.load(sys.stdin))
        said = str(fields_of(config.get("annotations")).get("cellnet"))
        path = said if said.startswith("/") else SOCKET
        json.dump(changed(config, asked(path, identity(config))), sys.stdout)
    except HookFailure as failure:
        print(f"cellnet: {failure}", file=sys.stderr)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.sendto(f"{ERROR}{failure}".encode(), LOG)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
