"""The CA's only kind of refusal. The agent's edges print it like their own errors: `error: what; hint: what to do`."""

from host.errors import HintedError


class CaRefused(HintedError, ValueError):
    """The CA will not vouch, or has nothing to vouch with."""
