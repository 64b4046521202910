"""A name server of the outside: a dnsmasq in the namespace that a cell's uplink leads to, with a few records of each kind."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from agent.dns.process import dnsmasq_program
from tests.testlib.dns.client import Code, ask_once
from tests.testlib.node import Node
from tests.testlib.patience import eventually

NAME = "www.example.com"
MANY = "many.example.com"  # too much for one datagram


@contextmanager
def outside_dns(place: Node, *, at: IPv4Address, address: str = "192.0.2.1", port: int = 53) -> Iterator[None]:
    """One that listens at an address of `place`; `NAME` has the address `address` there."""
    records = (
        f"--host-record={NAME},{address},2001:db8::1", "--txt-record=example.com,some text", f"--dns-rr={NAME},65,000100",
        "--mx-host=example.com,mail.example.com,10", "--srv-host=_http._tcp.example.com,www.example.com,80",
        f"--ptr-record=1.2.0.192.in-addr.arpa,{NAME}", *(f"--txt-record={MANY},{each} {'x' * 200}" for each in range(20)),
        "--local=/example.com/", "--local=/2.0.192.in-addr.arpa/", "--local-ttl=60",
    )  # fmt: skip
    argv = (
        "nsenter", f"--net={place.pin}", "--", str(dnsmasq_program()), "--keep-in-foreground", "--conf-file=/dev/null",
        "--pid-file=", "--log-facility=/dev/null", "--user=root", f"--listen-address={at}", "--bind-interfaces",
        f"--port={port}", "--no-resolv", "--no-hosts", *records,
    )  # fmt: skip
    server = subprocess.Popen(argv)
    try:
        if port == 53:
            eventually(lambda: server.poll() is None and _answers(place, at))
        yield
    finally:
        server.terminate()
        server.wait(20)


def _answers(place: Node, at: IPv4Address) -> bool:
    try:
        return ask_once(place, NAME, at=at).code is Code.NOERROR
    except OSError:
        return False
