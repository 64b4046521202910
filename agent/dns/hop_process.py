"""`cellnet dns-hop`: ask the outside for the names of policies, as a user of its own without a capability.

Where there is no such policy for a container here it only waits for one, in little memory (`dataplane/dns/hop/doorway.py`).
What reads packets from outside must not be able to open anything: it is the agent that puts addresses into the kernel's sets
(`asked_names.py`), and it looks at each of them again.
"""

import os
import socket
import sys
import time
from collections.abc import Collection
from pathlib import Path

from agent.config.accounts import hop_account, obstacle
from agent.config.config import Config
from agent.dns.process import has_hop
from agent.errors import Conflict, HostRefused
from dataplane.dns.command import HOP, Upstream
from dataplane.dns.hop import doorway
from host import syscalls
from host.errors import refused_as

BACKLOG = 128
IDLE = ("sleep", "infinity")
SO_RCVBUFFORCE = 33  # of Linux
ROOM = 4 << 20  # bytes: for all questions that dnsmasq lets wait, since each that is lost is waited for 10 s
PATIENCE, POLL = 10.0, 0.05  # seconds: a hop that has just ended may leave its port a moment later


def what_keeps_hop(config: Config, *, servers: Collection[Upstream]) -> HostRefused | None:
    """Why it has nobody to ask; `servers` are the name servers that were found."""
    if config.dns.upstreams == ():
        hint = "name name servers as dns.upstreams in agent.yaml, or `auto` for the host's, and start the agent anew"
        return HostRefused("this cell asks no name server (`dns.upstreams: none`)", hint=hint)
    if not servers:
        hint = f"name one in {config.paths.host_resolv_conf}, or as dns.upstreams in agent.yaml, outside of the overlay"
        return HostRefused("there is no name server of the outside to ask", hint=hint)
    return None


def exec_hop(config: Config) -> int:
    """Replace this process. Raises HostRefused if the host lacks its user, Conflict if its port is taken.

    Where all names are asked for by dnsmasq itself, or none, there is nothing to do.
    """
    if not has_hop(config):
        os.execvp(IDLE[0], IDLE)  # noqa: S606 -- no shell is what is wanted
    account, paths = hop_account(config), config.paths
    reached = (paths.hop_wanted, paths.hop_socket, paths.upstreams, Path(sys.executable), Path(doorway.__file__))
    refused = obstacle(account, reached, called="the user")
    if refused is not None:
        raise refused
    datagrams, connections = _bound(socket.SOCK_DGRAM), _bound(socket.SOCK_STREAM)
    connections.listen(BACKLOG)
    with refused_as(f"cannot become '{account.pw_name}'", hint="start it as root"):
        syscalls.become(account.pw_uid, account.pw_gid)
    for each in (datagrams, connections):
        each.set_inheritable(True)
    sockets = [str(each.fileno()) for each in (datagrams, connections)]
    words = [*sockets, str(paths.hop_wanted), str(paths.hop_socket), str(paths.upstreams), doorway.PART]
    argv = doorway.doorway_command(str(Path(doorway.__file__).parents[3]), words)
    os.execv(argv[0], argv)  # noqa: S606 -- no shell is what is wanted


def _bound(kind: socket.SocketKind) -> socket.socket:
    made, until = socket.socket(socket.AF_INET, kind), time.monotonic() + PATIENCE
    made.setblocking(False)
    if kind is socket.SOCK_DGRAM:
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    else:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the one before may be there
    while True:
        try:
            made.bind((str(HOP.address), HOP.port))
        except OSError as error:
            if time.monotonic() > until:
                what = f"port {HOP.port} of {HOP.address} is not to be had: {error.strerror}"
                raise Conflict(what, hint=f"see what has it: ss -lnp 'sport = :{HOP.port}'") from error
            time.sleep(POLL)
        else:
            return made
