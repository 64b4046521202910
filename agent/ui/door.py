"""What each request must be before it is answered, whatever page sent it.

A name that another site's owner leads to this host (DNS rebinding) is no address, so `Host` must be one. What another page
sends carries that page's `Origin`. A session is a cookie that no script reads and no other site's page sends along.
"""

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from agent.control.errors import refusal
from agent.ui.entrance import Entrance

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN: Final = "/v1/"  # what begins otherwise holds nothing of the cell
ENTER: Final = "/enter"
READING: Final = frozenset({"GET", "HEAD"})
POLICY: Final = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types 'none'",
    )
)  # fmt: skip
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def cookie_name(port: int) -> str:
    """Cookies know no ports: each process has a name of its own."""
    return f"cellnet-{port}"


def door(entrance: Entrance, *, port: int) -> Middleware:
    """Lets through what the page itself may have sent."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = _refused(request, entrance, port=port) or await handler(request)
        if not given.prepared:
            given.headers.update(HEADERS)
        return given

    return check


def _refused(request: web.Request, entrance: Entrance, *, port: int) -> web.Response | None:
    host = request.headers.get("Host", "")
    if not is_address(host):
        return refusal(403, "Forbidden", f"'{host[:100]}' is not how this page is called", hint="use the address as printed")
    origin = request.headers.get("Origin")
    foreign = origin is not None and origin != f"http://{host}"
    if foreign or request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return refusal(403, "Forbidden", "another page sent this", hint="use the address that `cellnet ui` printed")
    if request.method not in READING and origin is None:
        return refusal(403, "Forbidden", "a change says which page it comes from", hint="use the page")
    if request.path.startswith(OPEN) and not entrance.knows(request.cookies.get(cookie_name(port), "")):
        what = "this address was used already" if entrance.is_used else "the address lacks its token"
        return refusal(401, "Unauthorized", what, hint="start `cellnet ui` again, and open the address that it prints")
    return None


def is_address(host: str) -> bool:
    """Whether a `Host` is an address, or localhost; the port may be that of a tunnel (ssh -L)."""
    try:
        split = urlsplit(f"//{host}")
        name, _ = split.hostname, split.port
        if name != "localhost":
            IPv4Address(name or "")
    except ValueError:
        return False
    return split.netloc == host and "@" not in host
