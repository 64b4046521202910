"""Bodies from outside: checked here, then values. Unknown fields are refused, since a typo must not pass."""

import asyncio
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from agent.errors import InvalidInput
from agent.model.credentials import StoreCredentials
from agent.wording import did_you_mean

BODY_WITHIN = 10.0  # seconds


class Body(BaseModel):
    """What all bodies share: exact JSON types and no field that we do not know."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CredentialsBody(Body):
    """The rights to change the store with, for this one request: username and password, or cert and key (PEM)."""

    username: str | None = Field(default=None, max_length=128)
    password: str | None = Field(default=None, repr=False)
    cert: str | None = Field(default=None, repr=False)
    key: str | None = Field(default=None, repr=False)


class OperatorBody(Body):
    """What every change of the store may have, and all that is in the body of a DELETE."""

    store_credentials: CredentialsBody | None = None

    def credentials(self) -> StoreCredentials | None:
        """The value for the service. Raises InvalidInput for a half."""
        given = self.store_credentials
        if given is None:
            return None
        return StoreCredentials(username=given.username, password=given.password, cert=given.cert, key=given.key)


Kind = TypeVar("Kind", bound=Body)


async def read_body(kind: type[Kind], request: web.Request) -> Kind:
    """The request's body as `kind`. Raises InvalidInput that names every field that is wrong, and TimeoutError."""
    async with asyncio.timeout(BODY_WITHIN):
        body = await request.read()
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        found = error.errors(include_url=False)
        hint = next((text for each in found if (text := _suggestion(kind, each))), "see docs/api.md")
        raise InvalidInput("; ".join(_words(each) for each in found), hint=hint) from error


def _words(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown field '{where}'"
    if error["type"] == "missing":
        return f"field '{where}' is missing"
    return f"{where}: {error['msg']}" if where else error["msg"]


def _suggestion(kind: type[Body], error: ErrorDetails) -> str:
    if error["type"] != "extra_forbidden" or not error["loc"]:
        return ""
    known = [field.alias or name for name, field in kind.model_fields.items()]
    return did_you_mean(str(error["loc"][-1]), known, otherwise=f"known are {', '.join(known)}")
