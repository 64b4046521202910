"""Whether this kernel has what rules, sets and tunnels need: each is tried in a network namespace that ends with the trial.

What is tried is what the dataplane writes, by its own code where that can be called alone, and by its own words of iptables.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from agent.config.config import Mtls
from agent.doctor.checks import Finding
from agent.errors import HostRefused
from agent.model.status import Problem
from dataplane.firewall import bpf
from dataplane.firewall.backends.backends import Backend
from dataplane.firewall.backends.driver import TOOL_SECONDS
from dataplane.firewall.matches import crowded, hashlimit
from dataplane.flows import sockdiag
from dataplane.netlink import redirect, vtep
from dataplane.sets.ipset import MarkSet
from dataplane.tables import TAG_MASK, TAGS_SET, Redirect, Vtep
from host import syscalls
from host.errors import refused_as
from host.netlink.messages import NETLINK_ROUTE
from host.netlink.socket import connect
from host.process import run

HERE: Final = IPv4Interface("10.255.1.0/32")


@dataclass(frozen=True, slots=True)
class Feature:
    """What is tried, and the kernel's module that has it."""

    what: str
    module: str
    attempt: Callable[[], object]


def rule(table: str, words: str, *, backend: Backend, chain: str = "FORWARD") -> Callable[[], object]:
    """Load one rule."""
    text = f"*{table}\n-A {chain} {words}\nCOMMIT\n".encode()
    return lambda: run([f"iptables-{backend.value}-restore", "-w", "5"], stdin=text, timeout=TOOL_SECONDS)


def features(backend: Backend, *, mtls: Mtls, shared: bool) -> Iterator[Feature]:
    """Those that a cell like this one needs; `shared`: with others, by tunnels."""
    yield Feature("sets of addresses with marks", "ip_set_hash_ip", _marked_set)
    for what, module, table, words, chain in RULES:
        yield Feature(what, module, rule(table, words, backend=backend, chain=chain))
    yield Feature("the end of connections by a revoke", "tcp_diag (CONFIG_INET_DIAG_DESTROY)", _destroy)
    if shared:
        yield Feature("tunnels that carry tags (VXLAN, group policy)", "vxlan", _tunnel)
    if mtls is not Mtls.NONE:
        yield Feature("the redirect of mutual TLS (nf_tables)", "nf_tables nft_chain_nat nft_redir nft_ct", _redirect)


RULES: Final[Sequence[tuple[str, str, str, str, str]]] = (
    ("tags as marks", "xt_set", "mangle", f"-j SET --map-set {TAGS_SET} src --map-mark", "FORWARD"),
    ("rules by marks", "xt_mark", "filter", "-m mark --mark 0x1/0xffff -j ACCEPT", "FORWARD"),
    ("marks of connections", "xt_connmark", "mangle", "-j CONNMARK --save-mark --nfmask 0xffff --ctmask 0xffff", "FORWARD"),
    ("rules by connections", "xt_conntrack", "filter", "-m conntrack --ctstate ESTABLISHED -j ACCEPT", "FORWARD"),
    ("packets that are not followed", "xt_CT", "raw", "-p udp -m udp --dport 4789 -j CT --notrack", "PREROUTING"),
    ("the check of sources", "xt_rpfilter", "raw", "-m rpfilter --invert -j DROP", "PREROUTING"),
    ("the look inside of packets", "xt_bpf", "raw", f'-p icmp -m bpf --bytecode "{bpf.FOREIGN_QUOTE}" -j DROP', "PREROUTING"),
    ("limits by rate", "xt_hashlimit", "filter", f"{hashlimit(rate=9, burst=9, name='cellnet-try')} -j DROP", "FORWARD"),
    ("limits by number", "xt_connlimit", "filter", f"{crowded(53, 20)} -j DROP", "FORWARD"),
    ("rules by users", "xt_owner", "filter", "-m owner --uid-owner 1-4294967294 -j DROP", "OUTPUT"),
    ("refusals", "ipt_REJECT", "filter", "-p tcp -j REJECT --reject-with tcp-reset", "FORWARD"),
    ("ways out", "xt_MASQUERADE", "nat", "-p tcp -j MASQUERADE --to-ports 32768-60999", "POSTROUTING"),
    ("published ports", "xt_nat", "nat", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.255.1.2:80", "PREROUTING"),
)  # fmt: skip


def missing(tried: Iterator[Feature] | Sequence[Feature]) -> Finding:
    """Try each, in a namespace of its own for all."""
    all_of_them = tuple(tried)
    refused = in_new_namespace(lambda: {each.what: _refusal(each) for each in all_of_them})
    problems = tuple(_problem(each, refused) for each in all_of_them if refused[each.what] is not None)
    return Finding(f"{len(all_of_them)} features tried", problems)


def _refusal(feature: Feature) -> HostRefused | None:
    try:
        feature.attempt()
    except HostRefused as error:
        return error
    return None


def _problem(feature: Feature, refused: Mapping[str, HostRefused | None]) -> Problem:
    error = refused[feature.what]
    what = f"this kernel does not have {feature.what}: {'' if error is None else error.what}"
    module = feature.module.split()[0]
    return Problem("kernel", what, f"modprobe {module}; a kernel without {feature.module} cannot be used (docs/kernels.md)")


def in_new_namespace(function: Callable[[], dict[str, HostRefused | None]]) -> dict[str, HostRefused | None]:
    """Run it in a thread with a network namespace that is gone when it ends. Raises HostRefused."""
    result: Future[dict[str, HostRefused | None]] = Future()

    def work() -> None:
        try:
            with refused_as("this host gives no network namespaces", hint="sysctl -w user.max_net_namespaces=10000"):
                syscalls.unshare(syscalls.CLONE_NEWNET)
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=work, name="trial", daemon=True)
    thread.start()
    thread.join()
    return result.result()


def _marked_set() -> None:
    made = MarkSet(TAGS_SET, mask=TAG_MASK)
    try:
        made.ensure()
    finally:
        made.close()


def _tunnel() -> None:
    with connect(NETLINK_ROUTE) as kernel:
        end = Vtep((HERE,), mac="02:00:0a:ff:01:00", mtu=1450, vni=1, port=4789, local=IPv4Address("127.0.0.1"))
        vtep.create(kernel, end)


def _redirect() -> None:
    redirect.put(Redirect(overlay=IPv4Network("10.255.0.0/16"), direct_ports=(61443,)))


def _destroy() -> None:
    """A listener: those of connections go the same way."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        found = [each for each in sockdiag.all_listeners() if each.local_port == listener.getsockname()[1]]
        if not sockdiag.destroy_listeners(listener.getsockname()[1], found):
            raise HostRefused("it destroys no socket", hint="")
