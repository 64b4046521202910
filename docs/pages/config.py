"""docs/config.md, written from the annotations of Config; a test compares."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from enum import Enum

from agent.config.config import Config
from agent.config.settings import fields_of
from agent.config.values import Key
from agent.config.written import live_keys

HEAD = """# Configuration

`/etc/cellnet/agent.yaml`; every key is optional, a missing file means the defaults. A file that is named by `--config` or
`CELLNET_CONFIG` must be there. The file must be root's, and writable by root alone. The agent reads it at its start;
`cellnet status` names keys that have another value there since. `cellnet config reload`, `systemctl reload cellnet-agent` and
SIGHUP to the agent take up {live} without a restart, and say which
others need one; a file with a mistake changes nothing. `dns.upstreams` is among them only while the outside is asked for the
names of policies alone (`egress.default: deny`). A `tls.leaf_lifetime` of less than 4h makes listeners
of tunnels anew, as a restart with it does. Policy files need no reload. `cellnet config check [FILE]` says all mistakes
of a file, and what a change of it takes; `cellnet config show --origin` what is in force, and where each value was written.
 Root makes the file, and the folder of policies besides (`install -d
-m 755 /etc/cellnet/policies.d`); the agent does not, and a folder that is not there allows nothing.
Unknown keys, wrong types and values that YAML would convert oddly (`on`, `010`, `22:22`) are errors, all reported at once as
`file:line:column: message`.

A duration is a number and `s`, `m`, `h` or `d`: `90s`, `15m`, `24h`, `7d`. With `--root DIR` or `CELLNET_ROOT=DIR` every
path gets DIR in front of it, those given here too, the program in `envoy.binary` excepted.

A container reaches `host_services` at the host's address in the network of the cells (`underlay.address`): a service that
listens on 127.0.0.1 alone is not reached.

| key | default | meaning |
|---|---|---|
"""


def text() -> str:
    """The whole text of docs/config.md."""
    live = ", ".join(f"`{each}`" for each in sorted(live_keys()))
    return HEAD.format(live=live) + "".join(
        f"| `{name}` | `{default}` | {meaning} |\n" for name, default, meaning in key_rows(Config)
    )


def key_rows(section: type, *, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Each key with its default and what it means."""
    defaults = {each.name: each.default for each in fields(section)}
    for field in fields_of(section):
        if field.section is not None:
            yield from key_rows(field.section, prefix=f"{prefix}{field.name}.")
        elif field.key is not None:
            yield prefix + field.name, shown_default(field.key, defaults[field.name]), field.key.meaning


def shown_default(key: Key, default: object) -> str:
    """A key's default as a reader is shown it."""
    return key.shown or _yaml(default)


def _yaml(value: object) -> str:
    """A default as it would be written in agent.yaml."""
    match value:
        case Enum():
            return str(value.value)
        case timedelta():
            return f"{value // timedelta(hours=1)}h"
        case tuple():
            return f"[{', '.join(map(_yaml, value))}]"
        case _:
            return str(value)
