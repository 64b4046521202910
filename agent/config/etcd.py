"""`store: {etcd: …}`: how the store is reached that many cells share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.config import texts
from agent.config.paths import below
from agent.config.problems import Report
from agent.config.source import Node, Scalar, Table
from agent.config.values import Kind, Reader, described, integer, kind, listing, parsed, table
from agent.errors import InvalidInput

ENDPOINT = re.compile(r"(https?)://([A-Za-z0-9.-]+):([1-9][0-9]{0,4})/?")
PREFIX = re.compile(r"(/[A-Za-z0-9._-]+)+")
DEFAULT_QUOTA = 2 << 30  # bytes: etcd's own, unless its --quota-backend-bytes says otherwise
WHAT = "`sqlite`, or {etcd: {endpoints: ['https://HOST:2379']}}"


@dataclass(frozen=True, slots=True)
class EtcdEndpoint:
    """One member's client address."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Etcd:
    """One etcd. A user comes with a password's file; a certificate with its key. `quota` is its own for its data, in bytes."""

    endpoints: tuple[EtcdEndpoint, ...]
    prefix: str = "/cellnet"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    quota: int = DEFAULT_QUOTA

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.endpoints))} {self.prefix}"

    def below(self, root: Path | None) -> "Etcd":
        """As seen by an agent that was started with `--root`."""

        def there(path: Path | None) -> Path | None:
            return None if path is None else below(root, path)

        files = (self.ca, self.cert, self.key, self.password_file)
        ca, cert, key, password_file = map(there, files)
        return replace(self, ca=ca, cert=cert, key=key, password_file=password_file)


def endpoint(text: str) -> EtcdEndpoint:
    """`https://HOST:PORT`."""
    match = ENDPOINT.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise InvalidInput(f"'{text}' is not an endpoint of etcd", hint="e.g. https://192.0.2.5:2379")
    return EtcdEndpoint(match[2], int(match[3]), tls=match[1] == "https")


def prefix(text: str) -> str:
    """What all keys begin with."""
    if PREFIX.fullmatch(text) is None:
        raise InvalidInput(f"'{text}' cannot begin etcd's keys", hint="e.g. /cellnet")
    return text


def username(text: str) -> str:
    """A user of etcd."""
    if not 1 <= len(text) <= 128 or not text.isprintable():
        raise InvalidInput(f"'{text}' is not a user's name", hint="the name as `etcdctl user list` shows it")
    return text


READERS: Mapping[str, Reader[object]] = {
    "endpoints": listing(parsed(endpoint)),
    "prefix": parsed(prefix),
    "ca": parsed(texts.path),
    "cert": parsed(texts.path),
    "key": parsed(texts.path),
    "username": parsed(username),
    "password_file": parsed(texts.path),
    "quota": integer(low=1 << 20, high=1 << 40, what="a number of bytes"),
}


def read_store(node: Node, report: Report) -> Etcd | None:
    """`sqlite` (None: the cell's own file) or an etcd."""
    if isinstance(node, Scalar):
        if kind(node) is not Kind.NULL and node.text == "etcd":
            hint = "write {etcd: {endpoints: ['https://HOST:2379']}}; docs/store.md has the other keys"
            report.wrong(node, "an etcd is written with its endpoints", hint=hint)
        elif kind(node) is Kind.NULL or node.text != "sqlite":
            report.wrong(node, f"expected a store, found {described(node)}", hint=f"write {WHAT}")
        return None
    found = table(node, report, keys=("etcd",), what=WHAT)
    if found is None or "etcd" not in found:
        if found is not None:
            report.wrong(node, "no store is named", hint=f"expected {WHAT}")
        return None
    return _etcd(found["etcd"][1], report)


def _etcd(node: Node, report: Report) -> Etcd | None:
    found = table(node, report, keys=READERS, what="a mapping with endpoints")
    if found is None or not isinstance(node, Table):
        return None
    given = {name: READERS[name](value, report) for name, (_, value) in found.items()}
    wrong = _missing(given)
    if wrong is not None:
        report.wrong(node, wrong[0], hint=wrong[1])
    if wrong is not None or any(value is None for value in given.values()):
        return None
    return Etcd(**given)  # type: ignore[arg-type]


def _missing(given: Mapping[str, object]) -> tuple[str, str] | None:
    """What no key shows alone."""
    if "endpoints" not in given or given["endpoints"] == ():
        return "etcd needs endpoints", "e.g. endpoints: [https://192.0.2.5:2379]"
    for one, other in (("cert", "key"), ("username", "password_file")):
        if (one in given) != (other in given):
            return f"etcd's {one} and {other} go together", f"give both, or neither, of {one} and {other}"
    endpoints = given["endpoints"]
    plain = isinstance(endpoints, tuple) and not all(each.tls for each in endpoints)
    if plain and {"ca", "cert", "username"} & given.keys():
        return "etcd is given secrets or a CA, and an endpoint without TLS", "write https:// for every endpoint"
    return None
