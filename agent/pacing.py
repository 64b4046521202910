"""How long to wait before what failed is tried again."""


class Backoff:
    """Seconds between attempts that fail: 0.1, doubled up to 5."""

    def __init__(self) -> None:
        self._seconds = 0.1

    def next(self) -> float:
        """How long to wait now."""
        current, self._seconds = self._seconds, min(self._seconds * 2, 5.0)
        return current

    def reset(self) -> None:
        """It worked."""
        self._seconds = 0.1
