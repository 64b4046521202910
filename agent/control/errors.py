"""Errors as answers: every failure has the shape `{error: {kind, what, hint}}` and a status that says which side must act."""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic_core import to_jsonable_python

from agent import log
from agent.errors import RAISED, Bug, CellnetError, Conflict, HostRefused, InvalidInput, NotFound, Unavailable
from ca.errors import CaRefused

STATUSES: tuple[tuple[type[CellnetError], int], ...] = (
    (NotFound, 404),
    (InvalidInput, 400),
    (Conflict, 409),
    (HostRefused, 502),
    (Unavailable, 503),
    (Bug, 500),
)
KINDS = {400: "InvalidInput", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed", 413: "TooLarge"}
HINTS = {404: "see docs/api.md", 405: "see docs/api.md", 413: "send less at once"}

JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(content: object, *, status: int = 200, exclude: dict[str, set[str]] | None = None) -> web.Response:
    """JSON of dataclasses, models and plain values, with a newline at its end, as curl's users like it.

    `exclude` as pydantic has it. Times come out as `2030-01-02T03:04:05Z`, so they must be UTC and whole seconds.
    """
    text = json.dumps(to_jsonable_python(content, exclude=exclude))
    return web.Response(text=text + "\n", status=status, content_type=JSON)


def refusal(status: int, kind: str, what: str, *, hint: str) -> web.Response:
    """The one shape of a failure."""
    return answer({"error": {"kind": kind, "what": what, "hint": hint}}, status=status)


def not_found(what: str, *, hint: str) -> web.Response:
    """404 for a thing of ours that is not there."""
    return refusal(404, KINDS[404], what, hint=hint)


@web.middleware
async def failures_as_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into an answer; what is not expected is logged in full and answered as a Bug."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        kind = KINDS.get(error.status, "InvalidInput" if error.status < 500 else "Bug")
        refused = refusal(error.status, kind, _words(error, request), hint=HINTS.get(error.status, ""))
        refused.headers.update({name: value for name, value in error.headers.items() if name == "Allow"})
        return refused
    except TimeoutError:
        return refusal(503, "Unavailable", "the agent did not finish in time", hint="see 'cellnet status' and its log")
    except Exception as error:
        return _named(error, request)


def _words(error: web.HTTPException, request: web.Request) -> str:
    if error.status == 404:
        return f"there is no {request.path}"
    if error.status == 405:
        return f"{request.path} does not take {request.method}"
    return error.text or error.reason


def _named(error: Exception, request: web.Request) -> web.Response:
    known = HostRefused(error.what, hint=error.hint) if isinstance(error, CaRefused) else error
    if not isinstance(known, RAISED):
        known = Bug(f"{type(error).__name__} in the agent")
    if isinstance(known, Bug):
        log.get("control").error("control_request_failed", method=request.method, path=request.path, exc_info=error)
    kind, status = next(each for each in STATUSES if isinstance(known, each[0]))
    return refusal(status, kind.__name__, known.what, hint=known.hint)
