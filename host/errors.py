"""What the host or Envoy may refuse, named by who must act. The agent adds the kinds that only it can raise."""


class HostRefused(OSError):
    """The kernel or a tool of this host refused a change. `what` says which; `hint` says what the operator can do."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what


class Unexpected(HostRefused):
    """What a library, or our own code, raised without telling of it in advance; that is the cause, with its traceback."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"unexpected: {type(error).__name__}: {error}", hint="please report this, with the agent's log")
        self.__cause__ = error


class Unavailable(ConnectionError):
    """A part that cellnet needs (Envoy, the agent, a store) is not there now; the same call may work later."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what
