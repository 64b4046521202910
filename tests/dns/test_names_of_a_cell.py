"""Names of the apps of one cell, as the apps meet them: they lead to what serves, and to nothing else."""

import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from host.namespace import run_in
from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach
from tests.testlib.dns.client import Code, Kind, ask, ask_over_tcp
from tests.testlib.names import addresses, is_unknown, leads
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually

WEB, API = "acme/shop/web", "acme/shop/api"
NAME, ROUTE = "api.shop.acme.cell.internal", "backend.apps.internal"
GRACE = 3.0  # seconds that an app may be away
FOLLOWED = 1.5  # seconds until a change of the host's resolv.conf would have been followed


def script(text: str) -> tuple[str, str, str]:
    """A command that runs Python, with `os`, `socket` and `time`, and then idles."""
    return sys.executable, "-c", f"import os, socket, time\n{text}\ntime.sleep(1000)"


def waiting(cell: CellUnderTest) -> tuple[str, ...]:
    """Who is not served yet, as the status has it."""
    return cell.status().at("names").texts("waiting")


def test_an_app_finds_another_by_each_of_its_names_and_reaches_it_where_a_policy_says_so(cell: CellUnderTest) -> None:
    web, api = cell.run_app(WEB), cell.run_app(API, port=8080, server=True, routes=[ROUTE])
    eventually(lambda: leads(web, NAME, api))
    for name in (NAME, f"0.{NAME}", ROUTE, f"0.{ROUTE}"):
        assert leads(web, name, api)
    assert web.connect(api, 8080) is Refused  # a name opens no port
    web.exec("curl", "-s", f"http://{NAME}:8080/", code=7)  # it could not connect
    cell.allow(WEB, API, "tcp/8080")
    for name in (NAME, ROUTE, "api", "api.shop", f"0.{NAME}"):
        assert web.exec("curl", "-s", f"http://{name}:8080/") == f"hello {web.address}\n"
    assert web.exec("getent", "hosts", str(api.address)).split()[1] == f"0.{NAME}"


def test_an_app_without_ports_is_named_once_it_is_attached(cell: CellUnderTest) -> None:
    web, job = cell.run_app(WEB), cell.run_app("acme/shop/job")
    eventually(lambda: leads(web, "job.shop.acme.cell.internal", job))
    assert leads(web, "web.shop.acme.cell.internal", web)


def test_an_app_is_named_when_the_first_of_its_ports_is_served(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    api = cell.run_app(API, *script("b = socket.create_server(('', 9000))"), port=(8080, 9000))
    time.sleep(0.5)
    assert is_unknown(web, NAME)
    assert waiting(cell) == ("api (8080)",)
    assert [each.flag("ready") for each in cell.client.get("/v1/attachments").each() if each.text("name") == "api"] == [False]
    assert "not served yet: api (8080)" in cell.cellnet("status").out
    listener = api.listen(8080)
    eventually(lambda: leads(web, NAME, api))
    assert waiting(cell) == ()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):  # it was seen, and not dialled
        listener.accept()


def test_an_app_of_udp_is_named_when_its_socket_is_bound_on_whichever_address(cell: CellUnderTest, tmp_path: Path) -> None:
    web, gate = cell.run_app(WEB), tmp_path / "gate"
    awaits = f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)"
    serves = "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 53))"
    dns = cell.run_app("acme/shop/dns", *script(f"{awaits}\n{serves}"), options=["--port=53/udp", "--port=8080"])
    name = "dns.shop.acme.cell.internal"
    assert is_unknown(web, name)
    gate.touch()
    eventually(lambda: leads(web, name, dns))
    assert [each.texts("ports") for each in cell.client.get("/v1/attachments").each() if each.text("name") == "dns"] == [
        ("53/udp", "8080")
    ]


def test_an_app_that_no_call_from_outside_reaches_is_not_named(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    cell.run_app(API, *script("s = socket.create_server(('127.0.0.1', 8080))"), port=8080)
    time.sleep(0.5)
    assert is_unknown(web, NAME)


def test_an_app_that_restarts_keeps_its_name_and_one_that_is_gone_for_longer_has_it_again_when_it_serves(
    cell: CellUnderTest, attach: Attach
) -> None:
    web, api = cell.run_app(WEB), attach(API, ports=(8080,))
    server = api.listen(8080)
    eventually(lambda: leads(web, NAME, api))
    server.close()
    closed = time.monotonic()
    while time.monotonic() < closed + GRACE / 2:
        assert leads(web, NAME, api) or time.monotonic() > closed + GRACE
        time.sleep(0.05)
    again = api.listen(8080)
    eventually(lambda: leads(web, NAME, api))
    time.sleep(GRACE)
    assert leads(web, NAME, api)
    again.close()
    eventually(lambda: is_unknown(web, NAME))
    api.listen(8080)
    eventually(lambda: leads(web, NAME, api))


def test_an_instance_that_is_killed_or_ends_loses_its_name_at_once_and_the_others_keep_theirs(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    first, second, third = (cell.run_app(API, port=8080, server=True, name=f"api-{each}") for each in range(3))
    eventually(lambda: leads(web, NAME, first, second, third))
    first.app.runner.send_signal(signal.SIGKILL)
    eventually(lambda: leads(web, NAME, second, third))
    assert is_unknown(web, f"0.{NAME}")
    second.stop()
    assert leads(web, NAME, third)  # gone when its end is
    cell.cellnet("detach", "api-2")
    assert is_unknown(web, NAME)


def test_names_outlive_the_agent_and_the_next_one_keeps_what_holds_and_sweeps_the_rest(
    cell: CellUnderTest, attach: Attach
) -> None:
    web = cell.run_app(WEB)
    stays, goes, late = (attach(API, ports=(8080,), name=f"api-{each}") for each in range(3))
    server, closed = stays.listen(8080), goes.listen(8080)
    eventually(lambda: leads(web, NAME, stays, goes))
    cell.kill("agent")
    closed.close()
    late.listen(8080)
    assert leads(web, NAME, stays, goes)
    with ThreadPoolExecutor() as pool:
        starting, seen = pool.submit(cell.start), set[bool]()
        while not starting.done():
            seen.add(leads(web, f"0.{NAME}", stays))
            time.sleep(0.005)  # a container may ask so and so often
        starting.result()
    assert seen == {True}  # never away
    eventually(lambda: leads(web, NAME, stays, late))
    assert server.fileno() >= 0


def test_where_nothing_may_leave_the_overlay_no_question_leaves_the_host(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    (cell.lab.root / "etc/resolv.conf").write_text(f"nameserver {OUTSIDE.ip}\n")
    with run_in(cell.outside.pin, heard_by_a_name_server) as heard:
        time.sleep(FOLLOWED)
        for name in ("www.example.com", "1.2.0.192.in-addr.arpa", f"{NAME}.example.com", "backend"):
            for kind in (Kind.A, Kind.AAAA, Kind.TXT, Kind.PTR):
                assert ask(web, name, kind).code is Code.NXDOMAIN
                assert ask_over_tcp(web, name, kind).code is Code.NXDOMAIN
        with pytest.raises(BlockingIOError):
            heard.recv(512)
    assert cell.status().at("dns").texts("upstreams") == (f"{OUTSIDE.ip}#53",), "for names of policies"


def heard_by_a_name_server() -> socket.socket:
    """What is asked over UDP of the one that the host's resolv.conf names."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((str(OUTSIDE.ip), 53))
    return made


def test_callers_that_resolve_each_time_are_spread_over_the_instances(cell: CellUnderTest) -> None:
    web = cell.run_app(WEB)
    apis = [cell.run_app(API, port=8080, server=True, name=f"api-{each}") for each in range(3)]
    cell.allow(WEB, API, "tcp/8080")
    eventually(lambda: leads(web, NAME, *apis))
    web.exec("sh", "-c", f"for n in $(seq 60); do curl -s http://{NAME}:8080/ >/dev/null || exit 1; done")
    assert min(len(each.callers(8080)) for each in apis) >= 10


def test_names_come_and_go_with_instances_while_callers_never_get_one_that_is_not_there(cell: CellUnderTest) -> None:
    web, stays = cell.run_app(WEB), cell.run_app(API, port=8080, server=True)
    cell.allow("same-space", "acme/shop/*", "tcp/8080")
    eventually(lambda: leads(web, NAME, stays))
    known = {str(stays.address)}
    for number in range(5):
        other = cell.run_app(API, port=8080, server=True, name=f"other-{number}")
        eventually(lambda: leads(web, NAME, stays, other))
        assert web.connect(other, 8080) is Connected
        other.stop()
        assert addresses(web, NAME) == known
