"""What a netlink socket has been told without asking: all that waits, and how much of it the kernel had to drop."""

import errno
import socket


def take_waiting(heard: socket.socket, *, most: int, size: int) -> tuple[list[bytes], int]:
    """So many messages of `size` octets at the most, and how often the kernel had to drop some. Raises OSError.

    `heard` does not block.
    """
    found: list[bytes] = []
    lost = 0
    for _ in range(most):
        try:
            found.append(heard.recv(size))
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            lost += 1
    return found, lost
