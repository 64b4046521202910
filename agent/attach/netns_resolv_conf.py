"""A resolv.conf for `ip netns exec NAME`, which puts what is in /etc/netns/NAME over the files of /etc.

Only for namespaces whose attach asks for it: the folder is the host's. Its first line says whose the file is; one without
that line is never written over and never removed.
"""

import os
from contextlib import suppress
from pathlib import Path

from agent.errors import Conflict
from host.durable import PUBLIC, Write, make_folder, replace
from host.errors import refused_as

FOLDER = Path("/etc/netns")


def put(path: Path, text: str, *, owner: str) -> None:
    """For the attachment `owner`. Raises Conflict where another file is there, HostRefused."""
    found = _content(path)
    if found is not None and not _is_of(found, owner):
        raise Conflict(f"{path} is there already, and not of '{owner}'", hint="remove it, or leave --netns-resolv-conf out")
    content = f"{_mark(owner)}{text}"
    if found != content:
        with refused_as(f"cannot write {path}", hint="see the permissions, or leave --netns-resolv-conf out"):
            make_folder(path.parent, mode=0o755)
            replace(Write(path, content.encode(), PUBLIC))


def remove(path: Path, *, owner: str) -> None:
    """If it is the attachment's still, and its folder if nothing else is in that. Raises HostRefused."""
    found = _content(path)
    if found is not None and _is_of(found, owner):
        with refused_as(f"cannot remove {path}", hint="remove it by hand"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            os.rmdir(path.parent)


def _mark(owner: str) -> str:
    return f"# of cellnet's attachment '{owner}', with which it goes\n"


def _is_of(content: str, owner: str) -> bool:
    return content.startswith(_mark(owner))


def _content(path: Path) -> str | None:
    with refused_as(f"cannot read {path}", hint="see the permissions"), suppress(FileNotFoundError, NotADirectoryError):
        return path.read_text(errors="replace")
    return None
