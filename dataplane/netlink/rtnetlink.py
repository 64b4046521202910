"""What all tables of rtnetlink share: how entries are written and removed, one or many at once.

Numbers and layouts stand with their table under the names of the kernel's headers: links.py (linux/if_link.h), addresses.py
(if_addr.h), routes.py (rtnetlink.h), neighbours.py (neighbour.h, also for fdb.py), interior.py (fib_rules.h).
"""

import errno
import struct
from collections.abc import Mapping

from host.errors import HostRefused
from host.netlink.messages import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from host.netlink.socket import NetlinkSocket

NUMBER = struct.Struct("=I")
NEW, PUT = NLM_F_CREATE | NLM_F_EXCL, NLM_F_CREATE | NLM_F_REPLACE  # flags: only if it is not there, or in any case
ABSENT = (errno.ENOENT, errno.ESRCH, errno.ENODEV)


def change(kernel: NetlinkSocket, kind: int, body: bytes, *, flags: int = 0) -> None:
    """Make one change. Raises OSError, the kernel's refusal."""
    (answer,) = kernel.ask(kind, [body], flags=flags | NLM_F_ACK)
    if isinstance(answer, OSError):
        raise answer


def put_all(kernel: NetlinkSocket, kind: int, entries: Mapping[str, bytes], *, hint: str) -> None:
    """Write entries, whatever is there; the keys name them for people. Raises HostRefused after all were tried."""
    answers = kernel.ask(kind, list(entries.values()), flags=PUT | NLM_F_ACK)
    _raise_refused("set", dict(zip(entries, answers, strict=True)), hint=hint)


def drop_all(kernel: NetlinkSocket, kind: int, entries: Mapping[str, bytes], *, hint: str) -> None:
    """Remove entries; those that have gone already are fine. Raises HostRefused after all were tried."""
    answers = dict(zip(entries, kernel.ask(kind, list(entries.values()), flags=NLM_F_ACK), strict=True))
    there = {name: each for name, each in answers.items() if not isinstance(each, OSError) or each.errno not in ABSENT}
    _raise_refused("remove", there, hint=hint)


def _raise_refused(verb: str, answers: Mapping[str, bytes | OSError], *, hint: str) -> None:
    refused = [(name, answer) for name, answer in answers.items() if isinstance(answer, OSError)]
    if refused:
        name, error = refused[0]
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise HostRefused(f"cannot {verb} {name}{more}: {error.strerror}", hint=hint) from error


def octets(mac: str) -> bytes:
    """A MAC address as the kernel takes it."""
    return bytes.fromhex(mac.replace(":", ""))
