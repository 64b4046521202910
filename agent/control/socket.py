"""The control socket as a file: never there without its mode, and never in the way of the next agent.

It is bound under a temporary name, given mode and group, set to listen, and then renamed; the file that a dead agent left
is replaced by the rename. Paths longer than a socket address holds (107 bytes) are reached through the folder's descriptor.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from agent.errors import Conflict, HostRefused
from host.durable import make_folder
from host.errors import refused_as

BACKLOG = 512
ANSWER_WITHIN = 1.0


@contextlib.contextmanager
def listening(path: Path, *, readers: int | None) -> Iterator[socket.socket]:
    """A listening unix socket at `path`, mode 0660, of root and the group `readers`; the file goes with the context.

    Raises Conflict if another agent answers there, HostRefused if the folder cannot be written.
    """
    with refused_as(f"cannot use {path.parent}", hint="see what it is: ls -ld"):
        make_folder(path.parent, mode=0o755)
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = Path(f"/proc/self/fd/{folder}")
        _refuse_a_second(short / path.name, shown=path)
        made = _make(short, path.name, shown=path, readers=readers)
        identity = os.stat(short / path.name)
        try:
            yield made
        finally:
            made.close()
            with contextlib.suppress(FileNotFoundError):
                # a later agent may have put its own in place
                if os.path.samestat(identity, os.lstat(short / path.name)):
                    os.unlink(short / path.name)
    finally:
        os.close(folder)


def _make(folder: Path, name: str, *, shown: Path, readers: int | None) -> socket.socket:
    temporary = folder / f".{os.getpid()}.sock"
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        temporary.unlink(missing_ok=True)
        made.bind(str(temporary))
        # no client can connect before listen(), so the mode that bind() gave never counts
        os.chown(temporary, os.getuid(), readers if readers is not None and os.getuid() == 0 else -1)
        os.chmod(temporary, 0o660)
        made.listen(BACKLOG)
        os.rename(temporary, folder / name)
    except OSError as error:
        made.close()
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise HostRefused(f"cannot make {shown}: {error.strerror}", hint="see what is at that path") from error
    return made


def _refuse_a_second(path: Path, *, shown: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_WITHIN)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:
            pass  # a full backlog is an agent too; what is no socket at all is refused by the rename or replaced
        else:
            raise Conflict(f"another agent answers at {shown}", hint="stop it first, or use another --root")
