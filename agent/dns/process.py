"""`cellnet dns`: become dnsmasq, as its own user with one capability.

A dnsmasq that is killed leaves its processes for TCP behind, for two minutes and a half at the most, and they hold its port. So
each start notes which process it was, and the next one ends what is left of that.
"""

import os
import resource
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from agent.config.accounts import dns_account, obstacle
from agent.config.config import Config, Verdict
from agent.dns.resolver import resolver_of
from agent.dns.upstreams import chosen
from agent.errors import Conflict, HostRefused
from dataplane.dns.command import HOP, DnsmasqSettings, Upstream, command
from dataplane.dns.hosts_files import FOLDER_MODE
from dataplane.dns.limits import most_children
from dataplane.netlink import addresses
from host import durable, process
from host.errors import refused_as
from host.netlink.messages import NETLINK_ROUTE
from host.netlink.socket import connect
from host.port_holders import PortHolder, holders, is_free

PORT = 53
PROGRAM = "dnsmasq"
PATHS = "/usr/sbin:/sbin"  # not every root has them in PATH
DESCRIPTORS = 512  # beside one for each TCP connection: questions to the outside share a third of all
PATIENCE, POLL = 30.0, 0.05  # seconds: the agent gives `lo` the address once its rules are there
END_SECONDS = 2.0  # for one that was asked to end
NOTE = "dnsmasq.pid"


def dnsmasq_program() -> Path:
    """Raises HostRefused where there is none."""
    found = shutil.which(PROGRAM, path=f"{os.environ.get('PATH', '')}:{PATHS}")
    if found is None:
        raise HostRefused(f"{PROGRAM} is not installed", hint="make setup, or apt-get install dnsmasq-base")
    return Path(found)


def dns_obstacle(config: Config) -> HostRefused | None:
    """A folder that dnsmasq's user cannot enter, on the way to what it reads."""
    account, paths = dns_account(config), config.paths
    return obstacle(account, (paths.names / "any", paths.upstreams), called="dnsmasq's user")


def exec_dns(config: Config) -> int:
    """Replace this process. Raises HostRefused if the host lacks user, program or address, Conflict if the port is taken."""
    account, program, resolver = dns_account(config), dnsmasq_program(), resolver_of(config)
    with refused_as(f"cannot prepare {config.paths.dns}", hint="see what it is: ls -ld"):
        durable.make_folder(config.paths.names, mode=FOLDER_MODE)
        with suppress(FileExistsError):  # the agent writes what is in there
            durable.create(config.paths.upstreams, b"", mode=durable.PUBLIC)
    refused = dns_obstacle(config)
    if refused is not None:
        raise refused
    await_address(resolver.address, seconds=PATIENCE)
    _take_port(config, resolver.address, uid=account.pw_uid)
    settings = settings_of(config)
    _limit_descriptors(most_children(settings.addresses) + DESCRIPTORS)
    argv = command(settings, binary=program, user=account.pw_name, uid=account.pw_uid, gid=account.pw_gid)
    with refused_as(f"cannot run {argv[0]}", hint="apt-get install util-linux"):
        os.execvp(argv[0], list(argv))  # noqa: S606 -- no shell is what is wanted


def settings_of(config: Config) -> DnsmasqSettings:
    """What dnsmasq is told. Where containers may not leave the overlay the outside is asked through the hop alone."""
    upstreams: Sequence[Upstream] | None = config.dns.upstreams
    if config.egress.default is Verdict.DENY:
        upstreams = (HOP,) if has_hop(config) else ()
    elif upstreams is not None:
        upstreams = chosen(tuple(upstreams), overlay=config.overlay.network, resolver=config.dns.address).asked
    return DnsmasqSettings(
        resolver=resolver_of(config),
        overlay=config.overlay.network,
        addresses=2 ** (32 - config.overlay.cell_prefix),
        names=config.paths.names,
        upstreams=tuple(upstreams or ()),
        upstreams_file=config.paths.upstreams if upstreams is None else None,
        with_clients=upstreams == (HOP,),
    )


def has_hop(config: Config) -> bool:
    """Whether the outside is asked for names of policies alone."""
    return config.egress.default is Verdict.DENY and config.dns.upstreams != ()


def await_address(address: IPv4Address, *, seconds: float) -> None:
    """Return when `lo` has it. Raises HostRefused."""
    until = time.monotonic() + seconds
    with connect(NETLINK_ROUTE) as kernel:
        while address not in addresses.read_own(kernel):
            if time.monotonic() > until:
                hint = "the agent gives it to `lo` at its start: see `cellnet status`"
                raise HostRefused(f"this host does not have the resolver's address {address}", hint=hint)
            time.sleep(POLL)


def _take_port(config: Config, address: IPv4Address, *, uid: int) -> None:
    """Be the one that serves there. Raises Conflict where another program does, or a dnsmasq that does not end."""
    note, until = config.paths.dns / NOTE, time.monotonic() + END_SECONDS
    while not is_free(address, PORT):
        found, former = holders(address, PORT), running_dnsmasq(config)
        left = [each for each in found if each.uid == uid and each.program == PROGRAM]
        if len(left) < len(found) or time.monotonic() > until:
            raise _taken(address, [each for each in found if each not in left] or found, former)
        for each in left if former is None else ():
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        time.sleep(POLL)
    own = f"{os.getpid()} {process.own_start_time()}\n"
    with refused_as(f"cannot write {note}", hint="see `df` and `ls -la`"):
        durable.replace(durable.Write(note, own.encode(), durable.PUBLIC))


@dataclass(frozen=True, slots=True)
class DnsmasqProcess:
    """The one that was started last, or what is about to become it."""

    pid: int

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def running_dnsmasq(config: Config) -> DnsmasqProcess | None:
    """This cell's, while there is one."""
    try:
        pid, started = map(int, (config.paths.dns / NOTE).read_text().split())
    except (OSError, ValueError):
        return None
    return DnsmasqProcess(pid) if process.start_time(pid) == started else None


def reread_by_dnsmasq(config: Config) -> None:
    """Have it read all of its files, if it runs."""
    running = running_dnsmasq(config)
    if running is not None:
        running.send(signal.SIGHUP)


def what_keeps_dns(config: Config) -> HostRefused | Conflict | None:
    """What a start would be refused for, as far as it can be seen from outside."""
    try:
        account, _ = dns_account(config), dnsmasq_program()
    except HostRefused as error:
        return error
    strangers = [each for each in holders(config.dns.address, PORT) if each.uid != account.pw_uid]
    return dns_obstacle(config) or (_taken(config.dns.address, strangers, None) if strangers else None)


def _taken(address: IPv4Address, found: Sequence[PortHolder], former: DnsmasqProcess | None) -> Conflict:
    if former is not None:
        return Conflict(f"this cell's dnsmasq runs already, as process {former.pid}", hint="one is enough: leave it, or end it")
    by = ", ".join(map(str, found)) or "another program"
    return Conflict(f"port {PORT} of {address} is taken by {by}", hint="end that, or choose another dns.address in agent.yaml")


def _limit_descriptors(wanted: int) -> None:
    """dnsmasq keeps a table by the limit that it finds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
