"""Whether a peer's tunnel answers. Its kernel is asked: a peer refuses every connection to its VTEP at once, and that refusal
has come through the tunnel in both directions. No service has to listen anywhere.

Two questions, since a tunnel can fail by halves: a TCP connection (broken where a network card gets checksums of VXLAN wrong,
though pings work) and a packet of full size (lost where the underlay carries less than its MTU promises).
"""

import asyncio
import socket
from enum import Enum
from ipaddress import IPv4Address

PORT = 9  # discard; whether a service listens there does not matter, as nothing from a peer gets that far
HEADERS = 28  # octets of IPv4 and UDP
MTU_DISCOVER, NEVER_FRAGMENT = 10, 2  # IP_MTU_DISCOVER, IP_PMTUDISC_DO


def is_probe(source: IPv4Address, to: IPv4Address, port: int, *, cell_prefix: int) -> bool:
    """Whether it is a cell's question to another: from one VTEP to the other, which have the first address of a cell's part."""
    rest = (1 << (32 - cell_prefix)) - 1
    return port == PORT and not (int(source) & rest or int(to) & rest)


class TunnelAnswer(Enum):
    """What came back."""

    ALL = "answers"
    NONE = "silent"
    ONLY_SMALL = "only small packets"


async def probe(vtep: IPv4Address, *, mtu: int, seconds: float) -> TunnelAnswer:
    """Ask the peer whose tunnel ends at `vtep`, from the calling thread's namespace; each question may take `seconds`.

    Raises OSError where this host cannot ask: no descriptor is left.
    """
    if not await _refuses(vtep, socket.SOCK_STREAM, b"", seconds=seconds):
        return TunnelAnswer.NONE
    if not await _refuses(vtep, socket.SOCK_DGRAM, bytes(mtu - HEADERS), seconds=seconds):
        return TunnelAnswer.ONLY_SMALL
    return TunnelAnswer.ALL


async def _refuses(vtep: IPv4Address, kind: socket.SocketKind, payload: bytes, *, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as asking:
        try:
            async with asyncio.timeout(seconds):
                asking.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, NEVER_FRAGMENT)
                await loop.sock_connect(asking, (str(vtep), PORT))
                if payload:
                    await loop.sock_sendall(asking, payload)
                    await loop.sock_recv(asking, 1)
        except ConnectionRefusedError:
            return True
        except OSError:  # no route, too large, too late
            return False
    return True  # accepted: a peer whose rules are not there
