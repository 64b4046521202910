"""structlog for the whole agent: lines for people on a terminal, JSON otherwise (systemd's journal keeps the fields)."""

import contextlib
import io
import logging
import os
import sys
from typing import TextIO, cast

import structlog

STDERR = 2
_least = logging.INFO


def configure(*, level: str = "info") -> None:
    """Set the log up once, at the start of the daemon; it goes to standard error."""
    set_level(level)
    shared = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _drop_lesser]
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if terminal else "iso", utc=not terminal),
            *(() if terminal else (structlog.processors.format_exc_info,)),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if terminal
            else structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", Lossy(STDERR))),
        cache_logger_on_first_use=True,
    )


def set_level(level: str) -> None:
    """From now on events of a lesser level are left out."""
    global _least
    _least = logging.getLevelNamesMapping()[level.upper()]


def _drop_lesser(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if logging.getLevelNamesMapping()[str(event["level"]).upper()] < _least:
        raise structlog.DropEvent
    return event


class Lossy(io.TextIOBase):
    """Loses what its file does not take: a full disk below the log, or a reader that has gone, must not end the writer."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """All of it at once, or as much as goes."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)


def get(area: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry their area."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(area=area)
    return logger
