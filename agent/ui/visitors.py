"""Whose connections are taken: on this host those of the user who called, so that a token is of no use to another user here."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Final

from agent.bounded_visitor import BoundedVisitor
from dataplane.flows.sockdiag import Ends, find
from host.errors import HostRefused

LONGEST: Final = 3600.0  # seconds, of a connection


def users_of(environment: Mapping[str, str], *, uid: int) -> frozenset[int]:
    """The caller's, and under sudo the one's who called sudo: the browser is that user's."""
    given = environment.get("SUDO_UID", "")
    return frozenset({uid, int(given)} if uid == 0 and given.isascii() and given.isdecimal() else {uid})


def owner(ends: Ends) -> int | None:
    """The user whose socket is at `ends.local`, in the calling thread's network namespace. None where it cannot be told.

    A socket that its process has closed already is nobody's: older kernels call it root's.
    """
    with contextlib.suppress(HostRefused):
        (found,) = find([ends])
        if found is not None and found.inode:
            return found.owner
    return None


class NewVisitor(BoundedVisitor):
    """A connection before the server has it. Others' and too many are cut off."""

    def __init__(
        self, server: Callable[[], asyncio.Protocol], visitors: set[asyncio.Transport], *, users: frozenset[int]
    ) -> None:
        super().__init__(server, visitors, longest=LONGEST)
        self._users = users

    def is_welcome(self, made: asyncio.Transport) -> bool:
        """What comes from elsewhere has no user that could be seen: there the token alone decides."""
        (here, port), (there, from_port) = made.get_extra_info("sockname"), made.get_extra_info("peername")
        if not IPv4Address(there).is_loopback and here != there:
            return True
        return owner(Ends(IPv4Address(there), from_port, IPv4Address(here), port)) in self._users


def called_by() -> frozenset[int]:
    """The users of this process."""
    return users_of(os.environ, uid=os.geteuid())
