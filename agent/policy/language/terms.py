"""What a policy says beside its ends and its ports: whether it is on trial, until when it holds, and why it is there."""

import re
from datetime import UTC, datetime, timedelta

from agent.config.problems import UNSPEAKABLE, Report
from agent.config.source import Node, Scalar
from agent.config.texts import duration
from agent.config.values import Kind, clipped, described, kind, parsed, reported
from agent.errors import InvalidInput

MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:\d{2})", re.ASCII)
MOMENT_HINT = "write day, time and zone: 2026-12-31T18:00Z, or 2026-12-31T19:00+01:00"
LONGEST_NOTE = 200  # characters
AUDIT = "audit"
"""The one mode that a policy may name: what no other policy allows passes by it, and is recorded."""


def parse_until(text: str) -> datetime:
    """The moment, in UTC. Raises InvalidInput."""
    if MOMENT.fullmatch(text) is None:
        raise InvalidInput(f"'{clipped(text)}' is not a moment", hint=MOMENT_HINT)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"there is no such moment as {text}", hint=MOMENT_HINT) from error


def parse_end(text: str, *, now: datetime) -> datetime:
    """A moment, or a span from now on (`2h`). Raises InvalidInput."""
    if MOMENT.fullmatch(text) is not None:
        return parse_until(text)
    try:
        span = duration(text)
        return (now + span).replace(microsecond=0) + timedelta(seconds=1)  # never less than was asked for
    except (InvalidInput, OverflowError) as error:
        hint = "write 2026-12-31T18:00Z, or how long from now on: 90s, 15m, 24h, 7d"
        raise InvalidInput(f"'{clipped(text)}' is neither a moment nor a span of time", hint=hint) from error


def written_until(until: datetime) -> str:
    """As `parse_until` reads it: `2026-12-31T18:00:00Z`."""
    return until.isoformat().replace("+00:00", "Z")


def parse_note(text: str) -> str:
    """One line of text. Raises InvalidInput."""
    if not text.strip():
        raise InvalidInput("the note is empty", hint="say why the policy is there, or leave the note out")
    if UNSPEAKABLE.search(text) is not None:
        raise InvalidInput("the note is more than one line of text", hint="write one line, without control characters")
    if len(text) > LONGEST_NOTE:
        raise InvalidInput(f"the note has {len(text)} characters", hint=f"{LONGEST_NOTE} at most")
    return text


def read_until(node: Node, report: Report) -> datetime | None:
    """The moment in a file, where it is a date to YAML too."""
    if not isinstance(node, Scalar) or kind(node) is Kind.NULL:
        report.wrong(node, f"expected a moment, found {described(node)}", hint=MOMENT_HINT)
        return None
    return reported(lambda: parse_until(node.text), node, report)


def parse_mode(text: str) -> bool:
    """Whether it is a policy on trial. Raises InvalidInput."""
    if text != AUDIT:
        raise InvalidInput(f"'{clipped(text)}' is not a mode", hint="write audit, or leave the mode out: then it is in force")
    return True


read_mode = parsed(parse_mode)
read_note = parsed(parse_note)
