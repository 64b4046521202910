"""An operator's rights at the store, for one request: a user with a password, or a certificate with its key. Never kept."""

from dataclasses import dataclass, field

from agent.errors import InvalidInput

TOGETHER = "give username and password, or cert and key"


@dataclass(frozen=True, slots=True)
class StoreCredentials:
    """`cert` and `key` are PEM. Its repr has no secret in it, so that no log and no traceback can."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cert: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises InvalidInput for a half, for both, and for neither."""
        user, certificate = (self.username, self.password), (self.cert, self.key)
        given = [pair for pair in (user, certificate) if any(each is not None for each in pair)]
        if len(given) != 1 or not all(given[0]):
            raise InvalidInput("these are no credentials for a store", hint=TOGETHER)
