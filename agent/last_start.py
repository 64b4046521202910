"""Why the agent does not serve: a note beside its socket, for clients that ask in vain. Gone when it
starts anew."""

import contextlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from host.durable import PUBLIC, Write, make_folder, replace
from host.errors import HintedError

NOTE = "agent.failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """What keeps it, what to do, and since when (UTC)."""

    what: str
    hint: str
    at: str = ""


def refused(folder: Path, error: HintedError, *, now: datetime) -> None:
    """Leave the note of a start that came to nothing by this error."""
    write(folder, Failure(error.what, error.hint, f"{now:%Y-%m-%d %H:%M:%S}"))


def write(folder: Path, failure: Failure) -> None:
    """Leave the note, readable by every user. A folder that takes none has to do without: the log has it too."""
    with contextlib.suppress(OSError):
        make_folder(folder, mode=0o755)
        replace(Write(folder / NOTE, json.dumps(asdict(failure)).encode(), PUBLIC))


def remove(folder: Path) -> None:
    """It starts anew, or serves."""
    with contextlib.suppress(OSError):
        (folder / NOTE).unlink(missing_ok=True)


def read(folder: Path) -> Failure | None:
    """Why its last start came to nothing, None if that is not known."""
    try:
        found = json.loads((folder / NOTE).read_text())
        return Failure(str(found["what"]), str(found["hint"]), str(found.get("at", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
