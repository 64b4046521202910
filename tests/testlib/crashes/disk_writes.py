"""Something that writes, interrupted before any of its calls that change the disk."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

CALLS: tuple[tuple[object, str], ...] = (
    (os, "link"), (os, "fsync"), (os, "fchmod"), (Path, "rename"), (Path, "mkdir"), (Path, "unlink"),
)  # fmt: skip


class Crash(BaseException):
    """The power goes."""


def interrupted(
    work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, *, after: int, error: type[BaseException] = Crash
) -> bool:
    """Whether `work` was interrupted by `error`, raised in place of the call that comes after so many."""
    left = [after]

    def mortal(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if real.__name__ == "unlink" and not os.path.lexists(str(arguments[0])):
                return real(*arguments, **options)
            left[0] -= 1
            if left[0] == -1:
                raise error
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for where, name in CALLS:
            patched.setattr(where, name, mortal(getattr(where, name)))
        try:
            work()
        except error:
            return True
    return False
