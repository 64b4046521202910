"""Programs find names with a container's resolv.conf, whichever resolver they have: glibc's, musl's, Go's own."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.model.names import AppName
from agent.model.resolv_conf import resolv_conf
from host.namespace import run_in
from tests.testlib.beds.dns import DnsBed
from tests.testlib.dns.client import RESOLVER, ask
from tests.testlib.patience import PATIENCE, eventually

SOURCE = Path(__file__).parent / "getaddrinfo.c"
TEXT = resolv_conf(AppName("acme", "shop", "web"), nameserver=RESOLVER, domain="cell.internal").text
AS_THE_COMMAND_LINE_DOES = """
import os, sys
from agent.cli.containers.identity_mounts import private_mounts
from agent.cli.containers.resolver_mounts import bind_resolver
private_mounts()
bind_resolver(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
"""
API, BLOG = "api.shop.acme.cell.internal", "api.blog.acme.cell.internal"
NAMES = {"10.255.1.7": (API, "backend.apps.internal"), "10.255.1.8": (API,), "10.255.2.7": (BLOG,)}


def command(bed: DnsBed, *argv: str) -> list[str]:
    """One that runs in a container of acme/shop/web, as by `cellnet exec`."""
    return ["nsenter", f"--net={bed.containers[0].pin}", sys.executable, "-c", AS_THE_COMMAND_LINE_DOES, TEXT, *argv]


def inside(bed: DnsBed, *argv: str) -> "subprocess.CompletedProcess[str]":
    """Run one to its end."""
    return subprocess.run(command(bed, *argv), capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module", params=[("gcc",), ("musl-gcc", "-static")], ids=["glibc", "musl"])
def getaddrinfo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that asks for a name as its C library does."""
    program = tmp_path_factory.mktemp("resolver") / "getaddrinfo"
    subprocess.run([*request.param, "-o", str(program), str(SOURCE)], check=True)
    return program


@pytest.fixture
def named(bed: DnsBed) -> DnsBed:
    """With the apps `api` of two spaces, one of which has a route."""
    bed.publish(NAMES)
    eventually(lambda: ask(bed.containers[0], BLOG).addresses == ["10.255.2.7"])
    eventually(lambda: len(ask(bed.containers[0], API).addresses) == 2)
    return bed


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("api", {"10.255.1.7", "10.255.1.8"}),
        ("api.blog", {"10.255.2.7"}),
        ("api.shop", {"10.255.1.7", "10.255.1.8"}),
        ("backend.apps.internal", {"10.255.1.7"}),
        (BLOG, {"10.255.2.7"}),
        (f"{BLOG}.", {"10.255.2.7"}),
    ],
)
def test_short_names_and_whole_ones_are_found(named: DnsBed, getaddrinfo: Path, name: str, addresses: set[str]) -> None:
    done = inside(named, str(getaddrinfo), name)
    assert (done.returncode, set(done.stdout.split())) == (0, addresses), done.stdout


@pytest.mark.parametrize("name", ["nothing", "nothing.blog", "nothing.apps.internal", "www.example.com"])
def test_what_is_not_there_is_said_at_once(named: DnsBed, getaddrinfo: Path, name: str) -> None:
    done = inside(named, "timeout", "4", str(getaddrinfo), name)  # a resolver that gets no answer asks again after 5 s
    assert done.returncode == 1, done.stdout + done.stderr


def test_an_app_of_many_instances_is_found(bed: DnsBed, getaddrinfo: Path) -> None:
    """Their addresses fill more than a datagram: glibc asks again over TCP, musl takes those that it got."""
    many = {str(IPv4Address("10.255.3.1") + number): (API,) for number in range(100)}
    bed.publish(many)
    eventually(lambda: ask(bed.containers[0], API, edns=1232).truncated)
    done = inside(bed, str(getaddrinfo), "api")
    found = set(done.stdout.split())
    assert done.returncode == 0
    assert found <= many.keys()
    assert len(found) == len(many) or (len(found) >= 20 and "musl" in os.environ["PYTEST_CURRENT_TEST"])


@pytest.mark.usefixtures("without_tcp")
def test_an_app_of_sixty_instances_is_found_by_the_c_library_in_one_datagram(bed: DnsBed) -> None:
    many = {str(IPv4Address("10.255.3.1") + number): (API,) for number in range(60)}
    bed.publish(many)
    eventually(lambda: len(ask(bed.containers[0], API, edns=1232).addresses) == 60)
    assert ask(bed.containers[0], API).truncated
    done = inside(bed, sys.executable, "-c", "import socket; print(*(each[4][0] for each in socket.getaddrinfo('api', None)))")
    assert set(done.stdout.split()) == many.keys(), done.stderr


@pytest.fixture
def without_tcp(bed: DnsBed) -> Iterator[None]:
    """No question of the first container's passes over TCP."""
    rule = ["OUTPUT", "-p", "tcp", "--dport", "53", "-j", "REJECT", "--reject-with", "tcp-reset"]
    within = ["nsenter", f"--net={bed.containers[0].pin}", "iptables"]
    subprocess.run([*within, "-A", *rule], check=True)
    yield
    subprocess.run([*within, "-D", *rule], check=True)


@pytest.mark.parametrize("name", ["api", "api.shop", "backend.apps.internal"])
def test_a_program_in_go_reaches_an_app_by_its_name(bed: DnsBed, name: str) -> None:
    """etcdctl, made to use Go's own resolver, calls an app that is its own container."""
    container = bed.containers[0]
    bed.publish({str(container.address): (API, "backend.apps.internal")})
    eventually(lambda: ask(container, API).addresses == [str(container.address)])
    with listening(container.pin) as listener:
        listener.settimeout(PATIENCE)
        endpoint = f"--endpoints=http://{name}:{listener.getsockname()[1]}"
        words = command(bed, "etcdctl", endpoint, "--dial-timeout=60s", "--command-timeout=60s", "get", "x")
        go = {**os.environ, "GODEBUG": "netdns=go", "ETCDCTL_API": "3", "no_proxy": "*"}
        with subprocess.Popen(words, env=go) as calling:
            try:
                listener.accept()[0].close()
            finally:
                calling.kill()


def listening(pin: Path) -> socket.socket:
    """A port of a container."""
    made: Callable[[], socket.socket] = lambda: socket.create_server(("", 0))  # noqa: E731
    return run_in(pin, made)
