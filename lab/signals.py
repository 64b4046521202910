"""Ctrl-C and SIGTERM end a lab in order: they become an exception once, and have no effect while it cleans up."""

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNWINDING = 1.0


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Within the block, a signal that asks us to stop raises SystemExit with the exit code that a shell would show.

    One that follows within UNWINDING seconds has no effect: it could hit between the first one's exception and `held`.
    """
    last = -UNWINDING

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last >= UNWINDING:
            last = time.monotonic()
            raise SystemExit(128 + number)

    before = {each: signal.signal(each, stop) for each in STOPPING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within the block these signals do nothing; children that it starts still get them, unlike with SIG_IGN."""
    before = {each: signal.signal(each, lambda _number, _frame: None) for each in STOPPING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
