"""Looking at the sockets of one container, from within its namespace."""

import errno
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from dataplane.state import Workload
from host.errors import HostRefused
from host.namespace import NamespaceThread

Found = TypeVar("Found")


def inside(workload: Workload, function: Callable[[], Found]) -> Found | None:
    """Run `function` in the workload's namespace; None if that is gone. Raises HostRefused."""
    try:
        made = NamespaceThread(workload.pin, name="flows")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):  # no pin, or a file that is none (any more)
            return None
        raise HostRefused(
            f"cannot enter the namespace of {workload.name}: {error.strerror}", hint="cellnet needs root"
        ) from error
    with closing(made) as thread:
        return thread.call(function)
