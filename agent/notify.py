"""Reports to systemd (or `cellnet up`) that the agent is ready: sd_notify, a datagram to the socket named in NOTIFY_SOCKET."""

import contextlib
import os
import socket


def is_heard() -> bool:
    """Whether a supervisor has named a socket for reports."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(message: str) -> None:
    """Send `READY=1`, `STATUS=…` or the like. Without a socket, or if it does not listen, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, contextlib.suppress(OSError):
        sender.sendto(message.encode(), address)
