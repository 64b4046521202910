"""Whether another cell's end of the tunnel answers, asked of its kernel: a peer refuses every connection to its VTEP at once,
and that refusal has come through the tunnel in both directions. No service has to listen anywhere.

Two questions, since a tunnel can fail by halves: a TCP connection (broken where a network card gets checksums of VXLAN wrong,
though pings work) and a packet of full size (lost where the underlay carries less than it says).
"""

import asyncio
import socket
from enum import Enum
from ipaddress import IPv4Address

PORT = 9  # discard; whether anybody listens there does not matter, as nothing from a peer gets that far
HEADERS = 28  # octets of IPv4 and UDP
MTU_DISCOVER, NEVER_FRAGMENT = 10, 2  # IP_MTU_DISCOVER, IP_PMTUDISC_DO


class Answer(Enum):
    """What came back."""

    ALL = "answers"
    NONE = "silent"
    ONLY_SMALL = "only small packets"


async def probe(vtep: IPv4Address, *, mtu: int, seconds: float) -> Answer:
    """Ask the peer whose tunnel ends at `vtep`, from the calling thread's namespace; each question may take `seconds`.

    Raises OSError where this host cannot ask: no descriptor is left.
    """
    if not await _refuses(vtep, socket.SOCK_STREAM, b"", seconds=seconds):
        return Answer.NONE
    if not await _refuses(vtep, socket.SOCK_DGRAM, bytes(mtu - HEADERS), seconds=seconds):
        return Answer.ONLY_SMALL
    return Answer.ALL


async def _refuses(vtep: IPv4Address, kind: socket.SocketKind, words: bytes, *, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asking:
        try:
            async with asyncio.timeout(seconds):
                asking.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, NEVER_FRAGMENT)
                await loop.sock_connect(asking, (str(vtep), PORT))
                if words:
                    await loop.sock_sendall(asking, words)
                    await loop.sock_recv(asking, 1)
        except ConnectionRefusedError:
            return True
        except OSError:  # no route, too large, too late
            return False
    return True  # it was taken: a peer whose rules are not there
