"""The user of this host that `run --user` runs a command as: looked up before anything is done, become when all is ready."""

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import InvalidInput
from agent.model.key_owner import KeyOwner


@dataclass(frozen=True, slots=True)
class AppUser:
    """`groups` are the supplementary ones. A user that the host does not know has its number as `name`."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str = "/"

    def environment(self) -> Mapping[str, str]:
        """What programs know their user by."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def become(self) -> None:
        """Give this process the user's rights and no others: with root's uid go its capabilities. Raises OSError."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def find_user(text: str) -> AppUser:
    """`USER` or `USER:GROUP`, names or numbers. A group that is named is the only one. Raises InvalidInput.

    A number that the host has no user for needs a group, since there is none to look up.
    """
    word, colon, group = text.partition(":")
    known = _known_user(word)
    if known is not None:
        gid, groups = (_gid(group), ()) if colon else (known.pw_gid, tuple(os.getgrouplist(known.pw_name, known.pw_gid)))
        return AppUser(known.pw_uid, gid, groups, known.pw_name, known.pw_dir or "/")
    uid = _number(word)
    if uid is None:
        raise InvalidInput(f"there is no user '{word}' on this host", hint="see 'getent passwd', or give UID:GID")
    if not colon:
        raise InvalidInput(f"there is no user with uid {uid} on this host", hint=f"name its group, too: --user {uid}:GID")
    return AppUser(KeyOwner(uid).uid, _gid(group), (), str(uid))


def _known_user(word: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(word)
    except KeyError:
        uid = _number(word)
    try:
        return None if uid is None else pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return None


def _gid(word: str) -> int:
    try:
        return grp.getgrnam(word).gr_gid
    except KeyError:
        gid = _number(word)
    if gid is None:
        raise InvalidInput(f"there is no group '{word}' on this host", hint="see 'getent group', or give its number")
    return KeyOwner(gid=gid).gid or 0


def _number(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdigit() else None
