"""Why the agent does not serve: a note beside its socket, for whoever asks in vain. Gone as soon as it serves."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NOTE = "agent.failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """What keeps it, and what to do."""

    what: str
    hint: str


def note(folder: Path, failure: Failure) -> None:
    """Leave the note, readable by everybody. A folder that takes none has to do without: the log has it too."""
    new = folder / f".{NOTE}.new"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        new.write_text(json.dumps(asdict(failure)))
        new.chmod(0o644)
        os.replace(new, folder / NOTE)


def retract(folder: Path) -> None:
    """It serves."""
    with contextlib.suppress(OSError):
        (folder / NOTE).unlink(missing_ok=True)


def noted(folder: Path) -> Failure | None:
    """Why its last start came to nothing, None if that is not known."""
    try:
        found = json.loads((folder / NOTE).read_text())
        return Failure(str(found["what"]), str(found["hint"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
