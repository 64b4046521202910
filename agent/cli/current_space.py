"""The space that a name without one is in: `CELLNET_SPACE`, else what `cellnet target` keeps among the user's own files."""

import os
from contextlib import suppress
from pathlib import Path

from agent.errors import HostRefused, InvalidInput
from agent.model.names import Space, lowered

VARIABLE = "CELLNET_SPACE"
COMMAND = "cellnet target -o ORG -s SPACE"
HINT = f"write org/space/app, or choose a space by '{COMMAND}'"


def current_space() -> Space | None:
    """None where there is none. Raises InvalidInput for one that makes no sense, HostRefused for a file that cannot be read."""
    text = os.environ.get(VARIABLE, "")
    return _space(text, where=VARIABLE, hint=f"set {VARIABLE}=org/space") if text else kept_space()


def kept_space() -> Space | None:
    """What the user's file says. Raises as `current_space`."""
    path = target_file()
    if path is None:
        return None
    try:
        text = path.read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostRefused(f"cannot read {path}: {error.strerror}", hint=f"mend it, or set {VARIABLE}=org/space") from error
    return _space(text, where=str(path), hint=f"remove it, or set {VARIABLE}=org/space")


def keep_space(space: Space) -> Path:
    """Write it into the user's file, which is returned. Raises HostRefused."""
    from host.durable import PUBLIC, Write, make_folder, replace  # few commands write it
    from host.errors import refused_as

    path = target_file()
    if path is None:
        raise HostRefused("there is no folder for this user's files", hint=f"set HOME, or {VARIABLE}=org/space")
    with refused_as(f"cannot write {path}", hint=f"mend that, or set {VARIABLE}=org/space"):
        make_folder(path.parent, mode=0o700)
        replace(Write(path, f"{space}\n".encode(), PUBLIC))
    return path


def target_file() -> Path | None:
    """Where it is kept. A relative XDG_CONFIG_HOME does not count, as its specification has it."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not folder.is_absolute():
        home = ""
        with suppress(RuntimeError):
            home = str(Path.home())
        folder = Path(home) / ".config"
    return folder / "cellnet" / "target" if folder.is_absolute() else None


def _space(text: str, *, where: str, hint: str) -> Space:
    try:
        return Space.parse(lowered(text))
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.what}", hint=hint) from error
