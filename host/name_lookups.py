"""The addresses of names as this host's programs find them, each in a thread of its own: a name server that is silent holds up
nothing, neither other work of the process nor its end.
"""

import asyncio
import socket
import threading
from concurrent.futures import Future


class NameLookups:
    """IPv4 alone. A name whose lookup has not ended is not looked up a second time."""

    def __init__(self) -> None:
        self._unended: dict[str, Future[tuple[str, ...]]] = {}

    async def addresses(self, name: str) -> tuple[str, ...]:
        """Those of a name. Raises OSError and UnicodeError, TimeoutError while one from before has not ended."""
        before = self._unended.get(name)
        if before is not None and not before.done():
            raise TimeoutError(f"a lookup of {name} from before has not ended")
        future = self._unended[name] = Future[tuple[str, ...]]()
        threading.Thread(target=_look_up, args=(name, future), name="name-lookup", daemon=True).start()
        return await asyncio.wrap_future(future)


def _look_up(name: str, future: Future[tuple[str, ...]]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        found = socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
        future.set_result(tuple(str(address[0]) for *_, address in found))
    except (OSError, UnicodeError) as error:
        future.set_exception(error)
