#!/bin/sh
# fmt: off
''''exec /usr/bin/python3 -IS "$0" "$@" # for a shell: what installs scripts keeps no options of python's in their first line
The plugin of container engines: `cellnet-cni` for those that speak CNI, `cellnet-netavark` for podman 5. One script for both.

It starts with every container, so it imports nothing but the standard library, not even of cellnet; it asks the agent once and
ends. Of json and socket it takes the parts that are written in C: with all that the modules themselves import, it would take
twice as long to start. An engine holds its own locks meanwhile, so the script has a time limit of its own: what the agent has
begun then it brings to its end, and sweeps when the engine gives the namespace up.

CNI (specification 1.1): the command is in CNI_COMMAND, the network's configuration on standard input; an error is JSON on
standard output, whose words the engine shows. Netavark: the command is the first argument, and all else comes as JSON.
'''
# fmt: on

from __future__ import annotations

import _json
import _socket
import os
import sys
import time

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SOCKET, GATEWAY = "/run/cellnet/agent.sock", "169.254.0.1"
SECONDS = 25  # an attach takes milliseconds, and 13 s at most where Envoy is just starting
OURS = ("app", "ports", "routes", "socket")  # keys of a network's configuration
OF_CNI = ("cniVersion", "cniVersions", "name", "type", "args", "capabilities", "runtimeConfig", "prevResult", "dns", "ipMasq")
NOT_TAKEN = {"ips": "an address", "mac": "a hardware address", "bandwidth": "a bandwidth"}
"""What an engine may ask for and cellnet decides itself: to leave that out without a word would be worse."""
INCOMPATIBLE, NO_VARIABLE, NOT_JSON, BAD_CONFIG, LATER, NOT_READY, FORBIDDEN, BUG = 1, 4, 6, 7, 11, 50, 103, 104
CODES = {"InvalidInput": 7, "NotFound": 100, "Conflict": 101, "HostRefused": 102, "Unavailable": LATER, "Forbidden": FORBIDDEN}
ROOTLESS = "cellnet needs an engine that runs as root; a rootless one cannot use it"

Fields = dict[str, object]


class _Plain:  # what the scanner of JSON goes by
    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


class PluginFailure(Exception):
    """What the engine shows: `code` is the specification's, or above 99."""

    def __init__(self, code: int, what: str, hint: str) -> None:
        super().__init__(what)
        self.code, self.what, self.hint = code, what, hint


def parsed(content: bytes) -> object:
    """JSON as json.loads has it, which says what is wrong where something is. Raises ValueError."""
    text = content.decode().strip(" \t\r\n")
    try:
        value, end = _json.make_scanner(_Plain)(text, 0)  # type: ignore[arg-type] # any object with these fields
        if end == len(text):
            return value
    except (StopIteration, SystemError, ValueError):
        pass
    import json

    return json.loads(text)


def written(value: object) -> str:
    """JSON as json.dumps has it."""
    encode = _json.make_encoder(None, str, _json.encode_basestring_ascii, None, ": ", ", ", False, False, False)
    return "".join(encode(value, 0))


def fields_of(value: object, what: str) -> Fields:
    """`value` if it is an object of JSON. Raises PluginFailure."""
    if not isinstance(value, dict):
        raise PluginFailure(NOT_JSON, f"{what} is no object", "see docs/engines.md")
    return value


def texts(value: object) -> list[str]:
    """The texts of an array; nothing of what is none."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def given() -> Fields:
    """What the engine writes on standard input. Raises PluginFailure."""
    try:
        return fields_of(parsed(sys.stdin.buffer.read() or b"{}"), "the configuration")
    except (ValueError, RecursionError) as error:
        raise PluginFailure(NOT_JSON, f"the configuration is not JSON: {error}", "see the file in /etc/cni/net.d") from None


def ask(path: str, request: str, body: Fields | None = None) -> Fields:
    """One request to the agent's socket at `path`; its answer. Raises PluginFailure."""
    content = b"" if body is None else written(body).encode()
    head = f"{request} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    try:
        return _answer(_exchange(path, head.encode() + content))
    except TimeoutError:
        what = f"the agent of cellnet did not answer within {SECONDS} s"
        raise PluginFailure(LATER, what, "see 'cellnet status' and its log") from None
    except OSError as error:
        what = f"no agent of cellnet answers at {path}: {error.strerror or error}"
        if isinstance(error, PermissionError) or _is_rootless():
            raise PluginFailure(FORBIDDEN, what, ROOTLESS) from None
        raise PluginFailure(LATER, what, "see whether cellnet-agent.service, or 'cellnet up', runs, and its log") from None


def _is_rootless() -> bool:
    """Whether this is root of a user namespace alone, from which a rootless engine hides /run, the socket with it."""
    with open("/proc/self/uid_map", "rb") as file:
        return file.read().split() != [b"0", b"0", b"4294967295"]


def _exchange(path: str, request: bytes) -> bytes:
    """What comes back until the agent closes. Raises OSError; TimeoutError when the time is over, however much has come."""
    connection, answer, until = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM), b"", time.monotonic() + SECONDS
    try:
        connection.settimeout(SECONDS)
        connection.connect(path)
        connection.sendall(request)
        while part := connection.recv(65536):
            answer += part
            connection.settimeout(max(until - time.monotonic(), 0.001))
    finally:
        connection.close()
    return answer


def _answer(answer: bytes) -> Fields:
    lines, _, content = answer.partition(b"\r\n\r\n")
    try:
        status, found = int(lines.split(None, 2)[1]), fields_of(parsed(content), "the agent's answer")
    except (ValueError, IndexError, RecursionError):
        raise PluginFailure(LATER, "the agent of cellnet went away before it answered", "see its log, then try again") from None
    if status < 400:
        return found
    error = fields_of(found.get("error"), "the agent's error")
    code = CODES.get(str(error.get("kind")), BUG)
    raise PluginFailure(code, str(error.get("what")), ROOTLESS if code == FORBIDDEN else str(error.get("hint")))


def address(container: str, interface: str) -> str:
    """Where the agent has a container of an engine."""
    return f"/v1/containers/{_quoted(container)}/{_quoted(interface)}"


def _quoted(text: str) -> str:
    return "".join(
        chr(each) if (each < 128 and chr(each).isalnum()) or each in b"_.-" else f"%{each:02X}" for each in text.encode()
    )


def app_in(names: list[str]) -> str | None:
    """The first of a container's names on the network that is an app's."""
    return next((each for each in names if each.count("/") == 2), None)


def variable(name: str) -> str:
    """One that the specification demands. Raises PluginFailure."""
    found = os.environ.get(name, "")
    if not found:
        raise PluginFailure(NO_VARIABLE, f"{name} is missing", "the engine sets it; by hand: docs/engines.md")
    return found


def checked(config: Fields) -> str:
    """The version that an answer has to have. Raises PluginFailure for what cellnet does not know."""
    version = str(config.get("cniVersion") or "0.1.0")
    if version not in VERSIONS:
        raise PluginFailure(INCOMPATIBLE, f"cniVersion {version} is none of cellnet's", f"one of {', '.join(VERSIONS)}")
    return version


def arguments() -> dict[str, str]:
    """CNI_ARGS: `K=V;K=V`."""
    pairs = (each.partition("=") for each in os.environ.get("CNI_ARGS", "").split(";"))
    return {name: value for name, equals, value in pairs if equals}


def wanted(config: Fields, *, netns: str) -> Fields:
    """The body of an attach. Raises PluginFailure."""
    for unknown in (each for each in config if each not in OURS and each not in OF_CNI and "/" not in each):
        what = f"the network's configuration has an unknown key '{unknown}'"
        raise PluginFailure(BAD_CONFIG, what, f"known are {', '.join(OURS)}")
    asked, runtime = arguments(), fields_of(config.get("runtimeConfig") or {}, "runtimeConfig")
    for key, what in NOT_TAKEN.items():
        if runtime.get(key):
            raise PluginFailure(BAD_CONFIG, f"the engine asks for {what}, which cellnet gives itself", "leave it out")
    network = str(config.get("name"))
    aliases = runtime.get("aliases")
    body: Fields = {
        "network": network,
        "netns": netns,
        "name": asked.get("K8S_POD_NAME"),
        "app": asked.get("CELLNET_APP") or app_in(texts(aliases.get(network)) if isinstance(aliases, dict) else []),
        "default_app": config.get("app"),
        "address": asked.get("IP"),  # of podman 4, as the next: the agent gives a container only what it had
        "mac": asked.get("MAC"),
        "publish": [_published(each, "hostPort", "containerPort", "hostIP") for each in _items(runtime.get("portMappings"))],
    }
    return {
        key: value for key, value in {**body, "ports": config.get("ports"), "routes": config.get("routes")}.items() if value
    }


def _items(value: object) -> list[Fields]:
    return [fields_of(each, "a port mapping") for each in value] if isinstance(value, list) else []


def _published(mapping: Fields, host: str, inside: str, ip: str) -> Fields:
    found = {"port": mapping.get(host), "to": mapping.get(inside), "protocol": mapping.get("protocol") or "tcp"}
    listens, count = mapping.get(ip), mapping.get("range")
    if listens not in (None, "", "0.0.0.0"):  # noqa: S104 -- compared with, not bound
        found["address"] = listens
    if isinstance(count, int) and count > 1 and isinstance(found["port"], int):
        found["last"] = found["port"] + count - 1
    return found


def result(version: str, found: Fields, *, netns: str) -> Fields:
    """What an ADD answers, in the words of the configuration's version."""
    own: Fields = {"address": f"{found['address']}/32", "gateway": GATEWAY, "interface": 1}
    if version < "1":
        own["version"] = "4"
    near: Fields = {"name": found["host_interface"], "mac": found["host_mac"]}
    far: Fields = {"name": found["interface"], "mac": found["mac"], "sandbox": netns}
    dns = fields_of(found["dns"], "the agent's answer")
    return {
        "cniVersion": version,
        "interfaces": [near, far],
        "ips": [own],
        "routes": [{"dst": "0.0.0.0/0", "gw": GATEWAY}],
        "dns": {key: dns[key] for key in ("nameservers", "search", "options")},
    }


def add(config: Fields, path: str, version: str) -> Fields:
    """ADD: attached when it answers; again for the same container it is what is there."""
    netns, place = variable("CNI_NETNS"), address(variable("CNI_CONTAINERID"), variable("CNI_IFNAME"))
    return result(version, ask(path, f"PUT {place}", wanted(config, netns=netns)), netns=netns)


def delete(_config: Fields, path: str, _version: str) -> None:
    """DEL: what is not there any more is no error, and the namespace need not be."""
    ask(path, f"DELETE {address(variable('CNI_CONTAINERID'), variable('CNI_IFNAME'))}")


def check(config: Fields, path: str, _version: str) -> None:
    """CHECK: the agent has the container as the ADD has answered, and its namespace too."""
    netns, interface = variable("CNI_NETNS"), variable("CNI_IFNAME")
    if not config.get("prevResult"):
        raise PluginFailure(BAD_CONFIG, "CHECK without a prevResult", "the engine gives what ADD has answered")
    found = ask(path, f"GET {address(variable('CNI_CONTAINERID'), interface)}")
    told, own = fields_of(config["prevResult"], "prevResult").get("ips"), f"{found['address']}/32"
    if own not in [each.get("address") for each in _items(told)]:
        raise PluginFailure(CODES["Conflict"], f"the container has {own}, which is not what ADD has answered", "start it again")
    from_inside(netns, interface, str(found["address"]))


def from_inside(netns: str, interface: str, own: str) -> None:
    """Raise PluginFailure unless the interface, seen in the namespace itself, is up with its address and the default route."""
    import ctypes
    import fcntl

    try:
        with open(netns, "rb") as place:
            if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        name = interface.encode().ljust(40, b"\0")
        any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        flags = fcntl.ioctl(any_socket, 0x8913, name)[16]
        there = _socket.inet_ntoa(fcntl.ioctl(any_socket, 0x8915, name)[20:24])
        with open("/proc/self/net/route") as table:
            routes = [line.split()[:2] for line in table]
    except OSError as error:
        what = f"{interface} in {netns}: {error.strerror}"
        raise PluginFailure(CODES["HostRefused"], what, "start the container again") from None
    for missing, wrong in (
        (not flags & 1, "is down"), (there != own, f"has {there} in place of {own}"),
        ([interface, "00000000"] not in routes, "has no default route"),
    ):  # fmt: skip
        if missing:
            what = f"{interface} in {netns} {wrong}"
            raise PluginFailure(CODES["HostRefused"], what, "start it again; with mutual TLS the agent mends it itself")


def status(_config: Fields, path: str, _version: str) -> None:
    """STATUS: whether an ADD would work."""
    try:
        ask(path, "GET /v1/containers")
    except PluginFailure as failure:
        raise PluginFailure(NOT_READY, failure.what, failure.hint) from None


def collect(config: Fields, path: str, _version: str) -> None:
    """GC: what the engine no longer has on this network goes."""
    valid = [[each.get("containerID"), each.get("ifname")] for each in _items(config.get("cni.dev/valid-attachments"))]
    ask(path, "POST /v1/containers/keep", {"network": config.get("name"), "containers": valid})


COMMANDS = {"ADD": add, "DEL": delete, "CHECK": check, "STATUS": status, "GC": collect}
SINCE = {"CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0"}


def cni(command: str) -> int:
    """One command of the specification; the exit code."""
    version = VERSIONS[-1]
    try:
        config = given()
        if command == "VERSION":
            answer: Fields | None = {"cniVersion": config.get("cniVersion") or version, "supportedVersions": VERSIONS}
        elif command in COMMANDS:
            version, first = checked(config), SINCE.get(command, VERSIONS[0])
            if VERSIONS.index(version) < VERSIONS.index(first):
                raise PluginFailure(INCOMPATIBLE, f"cniVersion {version} has no {command}", f"{first} or later")
            answer = COMMANDS[command](config, str(config.get("socket") or SOCKET), version)
        else:
            raise PluginFailure(NO_VARIABLE, f"CNI_COMMAND '{command}' is none of cellnet's", f"VERSION, {', '.join(COMMANDS)}")
    except Exception as error:
        failure = shown(error)
        print(written({"cniVersion": version, "code": failure.code, "msg": failure.what, "details": f"hint: {failure.hint}"}))
        return 1
    return ended(answer)


def shown(error: Exception) -> PluginFailure:
    """Whatever went wrong, in words: an engine that reads no answer shows nothing of it."""
    if isinstance(error, PluginFailure):
        return error
    code = BAD_CONFIG if isinstance(error, ValueError | RecursionError) else BUG
    return PluginFailure(code, f"{type(error).__name__}: {error}", "see what the engine gives; if that is right, report this")


def ended(answer: Fields | None) -> int:
    """Say what there is to say; the exit code."""
    sys.stdout.write("" if answer is None else written(answer) + "\n")
    return 0


def netavark(command: str, rest: list[str]) -> int:
    """One command of podman's; the exit code."""
    try:
        return ended(_netavark(command, rest))
    except Exception as error:
        failure = shown(error)
        print(written({"error": f"{failure.what}; hint: {failure.hint}"}))
        return 1


def _netavark(command: str, rest: list[str]) -> Fields | None:
    if command == "info":
        return {"version": "1.0.0", "api_version": "1.0.0"}
    told = given()
    if command == "create":
        return created(told)
    network = fields_of(told.get("network"), "the network")
    options = fields_of(network.get("options") or {}, "the options")
    asked = fields_of(told.get("network_options"), "network_options")
    interface, path = str(asked.get("interface_name") or "eth0"), str(options.get("socket") or SOCKET)
    place = address(str(told.get("container_id")), interface)
    if command == "teardown":
        ask(path, f"DELETE {place}")
        return None
    if command != "setup" or not rest:
        raise PluginFailure(BAD_CONFIG, f"'{command}' is no command of a plugin", "podman calls it, with a namespace")
    mappings = [_published(each, "host_port", "container_port", "host_ip") for each in _items(told.get("port_mappings"))]
    body: Fields = {
        "network": network.get("name"), "netns": rest[0], "name": told.get("container_name"),
        "app": app_in(texts(asked.get("aliases"))), "default_app": options.get("app"), "publish": mappings,
        "address": " ".join(texts(asked.get("static_ips"))), "mac": asked.get("static_mac"),
    }  # fmt: skip
    found = ask(path, f"PUT {place}", {key: value for key, value in body.items() if value})
    dns = fields_of(found["dns"], "the agent's answer")
    subnets = [{"ipnet": f"{found['address']}/32", "gateway": GATEWAY}]
    return {
        "dns_server_ips": dns["nameservers"], "dns_search_domains": dns["search"],
        "interfaces": {interface: {"mac_address": found["mac"], "subnets": subnets}},
    }  # fmt: skip


def created(network: Fields) -> Fields:
    """`podman network create -d cellnet`: the network as it is, if nothing is asked of it that cellnet decides."""
    options = fields_of(network.get("options") or {}, "the network's options")
    for unknown in (each for each in options if each not in ("app", "socket")):
        raise PluginFailure(BAD_CONFIG, f"--opt {unknown} is not known", "known are app=ORG/SPACE/APP and socket=PATH")
    if network.get("subnets"):
        raise PluginFailure(BAD_CONFIG, "addresses are those of the overlay", "leave --subnet out")
    return {**network, "ipam_options": {"driver": "none"}, "dns_enabled": False}


def main() -> int:
    """Whichever engine has called."""
    if "CNI_COMMAND" in os.environ or len(sys.argv) < 2:
        return cni(os.environ.get("CNI_COMMAND", ""))
    return netavark(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
