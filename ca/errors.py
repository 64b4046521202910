"""The one way in which the CA says no. The agent's edges print it like their own errors: `error: what; hint: what to do`."""


class CaRefused(ValueError):
    """The CA will not vouch, or has nothing to vouch with. `what` says why; `hint` says what the operator can do."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
