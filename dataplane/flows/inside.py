"""Looking at the sockets of containers, from within their namespaces."""

import errno
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from typing import TypeVar

from dataplane.state import Workload
from host.errors import HostRefused
from host.namespace import NamespaceThread, enter

Found = TypeVar("Found")


def inside(workload: Workload, function: Callable[[], Found]) -> Found | None:
    """Run `function` in the workload's namespace; None if that is gone. Raises HostRefused."""
    return next((found for _, found in inside_each([workload], lambda _: function())), None)


def inside_each(workloads: Collection[Workload], function: Callable[[Workload], Found]) -> list[tuple[Workload, Found]]:
    """Run `function` of each workload in its namespace, one after the other; those whose namespaces are gone are left out.

    One thread for all: it takes longer to make one than to enter a namespace and look. Raises HostRefused.
    """
    if not workloads:
        return []
    with closing(NamespaceThread(name="flows")) as thread:
        return thread.call(lambda: list(_visits(workloads, function)))


def _visits(workloads: Iterable[Workload], function: Callable[[Workload], Found]) -> Iterator[tuple[Workload, Found]]:
    for workload in workloads:
        try:
            enter(workload.pin)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):  # no pin, or a file that is none (any more)
                continue
            what = f"cannot enter the namespace of {workload.name}: {error.strerror}"
            raise HostRefused(what, hint="cellnet needs root") from error
        yield workload, function(workload)
