"""Who is let in: a token that is good once, and the session that it is given for."""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

BYTES: Final = 32


class Entrance:
    """One per process. `random` makes an unguessable text of so many bytes."""

    def __init__(self, *, random: Callable[[int], str] = secrets.token_urlsafe) -> None:
        self.token = random(BYTES)
        self._session = random(BYTES)
        self._used = False

    def enter(self, token: str) -> str | None:
        """The session for the token, once; None for another one, and afterwards."""
        if self._used or not _same(token, self.token):
            return None
        self._used = True
        return self._session

    @property
    def is_used(self) -> bool:
        """Whether the token has been given back."""
        return self._used

    def knows(self, session: str) -> bool:
        """Whether it is the session that was given out."""
        return self._used and _same(session, self._session)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode())
