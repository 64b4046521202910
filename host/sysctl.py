"""Kernel settings under /proc/sys, which shows those of the calling thread's network namespace."""

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from host.errors import HostRefused

ROOT = Path("/proc/sys")


def read(keys: Iterable[str]) -> dict[str, str]:
    """The values of those that exist: a setting of a link that is not there has none."""
    found: dict[str, str] = {}
    for key in keys:
        try:
            found[key] = (ROOT / key).read_text().strip()
        except FileNotFoundError:
            continue
    return found


def names(folder: str) -> list[str]:
    """What there are settings of in a folder, such as links."""
    return sorted(each.name for each in (ROOT / folder).iterdir())


def has_ipv6() -> bool:
    """Whether the kernel has IPv6 at all: without it there is nothing to disable, and no table to write to."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()  # loads the module where it is one
    except OSError:
        return False
    return True


def write(values: Mapping[str, str]) -> None:
    """Set each. Raises HostRefused."""
    for key, value in values.items():
        try:
            (ROOT / key).write_text(value)
        except FileNotFoundError as error:
            raise HostRefused(f"the kernel has no setting {key}", hint="is the link still there?") from error
        except OSError as error:
            raise HostRefused(f"cannot set {key} to {value}: {error.strerror}", hint="cellnet must run as root") from error
