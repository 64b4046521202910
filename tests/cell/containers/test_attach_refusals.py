"""An attach that fails says why, and leaves nothing behind: not on the host, not in the namespace."""

import contextlib
import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import Conflict, HostRefused, Unavailable
from host.namespace import run_in
from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach
from tests.testlib.footprint import nothing_left, traces
from tests.testlib.instance import Instance
from tests.testlib.netns import Netns
from tests.testlib.node import Connected
from tests.testlib.patience import eventually
from tests.testlib.status import reports

MakeNetns = Callable[[str], Netns]
TLS = 61443


CANNOT_BE: tuple[tuple[int, str, str, str], ...] = (
    (2, "--name", "not a name", "'not a name' is not an attachment's name"),
    (2, "--name", "../web", "is not an attachment's name"),
    (2, "--app", "acme/shop", "acme/shop"),
    (2, "--app", "acme/shop/web_1", "web_1"),
    (2, "--port", "0", "port 0 is out of range"),
    *(
        (2, option, port, f"port {port} is cellnet's own in every container; hint: have the app listen on another")
        for option in ("--port", "--tls-target")
        for port in ("61443", "15001", "15008")
    ),
    (2, "--route", "nodots", "'nodots' is not a route"),
    (2, "--route", "*.apps.internal", "'*.apps.internal' is not a route: a route is one name"),
    (2, "--route", "0.api.apps.internal", "'0.api.apps.internal' begins with a number"),
    (2, "--route", "google.com", "'google.com' lies below no route domain"),
    (2, "--route", "api.shop.acme.cell.internal", "in cell.internal, where only the apps' own names are"),
    (2, "--instance", "-1", "instance -1 is out of range"),
    (2, "--interface", "far-too-long-name", "cannot be an interface's name"),
    (1, "--netns", "/run/netns/no-such-namespace", "cannot open /run/netns/no-such-namespace: No such file"),
    (1, "--netns", "/proc/self/ns/net", "is the host's own network namespace"),
    (1, "--netns", "/proc/self/ns/mnt", "is a namespace, but not of the network"),
    (1, "--netns", "/etc/hostname", "is not a namespace"),
    (1, "--netns", "/etc", "is not a namespace"),
    (1, "--netns", "/dev/zero", "is not a namespace"),
)  # exit code, option, value, and what must be reported


def test_what_cannot_be_attached_is_refused_with_reason_and_hint(cell: CellUnderTest, netns: MakeNetns) -> None:
    place = netns("web")
    right = ["attach", "--app", "acme/shop/web", "--name", "web", "--netns", str(place.path)]
    with nothing_left(cell, place):
        for code, option, value, words in CANNOT_BE:
            said = cell.cellnet(*right, option, value, code=code).err
            assert said.startswith("error: "), said
            assert words in said
            assert "hint: " in said


def test_a_route_that_another_space_has_is_refused(cell: CellUnderTest, netns: MakeNetns) -> None:
    cell.run_app("acme/shop/api", routes=["api.apps.internal"])
    cell.run_app("acme/shop/api", name="api-1", routes=["api.apps.internal"])
    place = netns("other")
    asked = ["attach", "--app", "acme/blog/api", "--name", "other", "--netns", str(place.path), "--route"]
    with nothing_left(cell, place):
        said = cell.cellnet(*asked, "api.apps.internal", code=1).err
        assert "the route api.apps.internal belongs to acme/shop;" in said
        assert "`cellnet route unmap api.apps.internal`" in said
        said = cell.cellnet(*asked, "v1.api.apps.internal", code=1).err
        assert "the route v1.api.apps.internal lies below api.apps.internal, of acme/shop" in said
    cell.cellnet("detach", "api")
    cell.cellnet("detach", "api-1")
    assert "belongs to acme/shop" in cell.cellnet(*asked, "api.apps.internal", code=1).err
    cell.cellnet("route", "unmap", "api.apps.internal")
    cell.cellnet(*asked, "api.apps.internal")
    cell.cellnet("detach", "other")


def test_a_fifo_in_place_of_the_namespace_does_not_hang_the_agent(cell: CellUnderTest, tmp_path: Path, attach: Attach) -> None:
    os.mkfifo(tmp_path / "fifo")
    with nothing_left(cell), pytest.raises(HostRefused, match="is not a namespace"):
        attach("acme/shop/web", to=tmp_path / "fifo")


def test_a_namespace_whose_link_has_our_name_is_refused_and_left_alone(
    cell: CellUnderTest, attach: Attach, netns: MakeNetns
) -> None:
    place = netns("web")
    place.run("ip", "link", "add", "eth0", "type", "bridge")
    place.run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
    place.run("ip", "link", "set", "eth0", "up")
    place.run("ip", "route", "add", "default", "via", "192.0.2.1")
    # a container's own policy routing, in the very places that we use
    place.run("ip", "rule", "add", "from", "192.0.2.2", "lookup", "77", "priority", "100")
    place.run("ip", "rule", "add", "fwmark", "77", "lookup", "78", "priority", "100")
    place.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.1", "table", "77")
    place.run("sysctl", "-qw", "net.ipv4.tcp_fwmark_accept=1", "net.ipv4.fwmark_reflect=1")
    with nothing_left(cell, place), pytest.raises(HostRefused, match="eth0") as refusal:
        attach("acme/shop/web", to=place)
    assert "another eth0" in refusal.value.hint


def test_detach_leaves_what_the_namespace_had_before(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    place = netns("web")
    place.run("ip", "link", "add", "eth1", "type", "bridge")
    place.run("ip", "link", "set", "eth1", "up")
    place.run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth1")
    place.run("ip", "rule", "add", "from", "192.0.2.2", "lookup", "78", "priority", "100")
    place.run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.1", "table", "77")
    with nothing_left(cell, place):
        attach("acme/shop/web", to=place).stop()


def test_a_taken_tls_port_is_reported_and_the_attach_undone(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    place = netns("web")
    squatter = run_in(place.path, lambda: socket.create_server(("", TLS)))
    with squatter, nothing_left(cell, place), pytest.raises(HostRefused, match="port 61443 is in use in the namespace"):
        attach("acme/shop/web", to=place)
    assert cell.host.connect(attach("acme/shop/web", to=place), TLS) is Connected


def test_a_refused_container_does_not_disturb_the_others(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    squatted = netns("squatted")
    with run_in(squatted.path, lambda: socket.create_server(("", TLS))), ThreadPoolExecutor(4) as pool:
        good = [pool.submit(attach, "acme/shop/web", name=f"web-{number}") for number in range(3)]
        bad = pool.submit(attach, "acme/shop/bad", to=squatted)
        assert isinstance(bad.exception(), HostRefused)
        assert [cell.host.connect(each.result(), TLS) for each in good] == [Connected] * 3


def test_a_name_in_use_is_a_conflict_that_names_its_owner(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    web, other = attach("acme/shop/web"), netns("other")
    with nothing_left(cell, other), pytest.raises(Conflict, match="the name 'web' is taken by acme/shop/web") as refusal:
        attach("acme/bank/other", to=other, name="web")
    assert "cellnet detach web" in refusal.value.hint
    said = cell.cellnet("run", "--app", "acme/shop/web", "--name", "web", "--", "true", code=1).err
    assert f"({web.name} 0, {web.address}" in said or str(web.address) in said


def test_a_taken_instance_is_a_conflict(cell: CellUnderTest, attach: Attach) -> None:
    attach("acme/shop/web")
    with nothing_left(cell):
        said = cell.cellnet("run", "--app", "acme/shop/web", "--name", "two", "--instance", "0", "--", "true", code=1).err
    assert "instance 0 of acme/shop/web is taken by 'web'" in said


def test_a_namespace_is_attached_once(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    place = netns("web")
    web = attach("acme/shop/web", to=place)
    with nothing_left(cell, place), pytest.raises(Conflict, match="is attached as 'web' already"):
        attach("acme/shop/web", to=place, name="second")
    with nothing_left(cell, place), pytest.raises(Conflict, match="is attached as 'web' already"):
        attach("acme/shop/web", to=web.pin, name="second")
    assert cell.host.connect(web, TLS) is Connected


def test_the_last_address_is_given_and_one_more_is_refused(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("overlay.cell_prefix=29")
    made: list[Instance] = []
    said = ""
    while len(made) < 8:
        before = traces(cell)
        try:
            made.append(cell.run_app("acme/shop/web", name=f"web-{len(made)}"))
        except Unavailable as refusal:  # the lab's word for what `cellnet run` has reported
            said = refusal.what
            break
    assert "no address left in 10.255.0.8/29; hint: detach" in said
    assert len(made) in range(4, 8)
    assert traces(cell) == before
    made[2].stop()
    assert cell.run_app("acme/shop/api").address == made[2].address


def test_what_an_earlier_version_attached_with_a_port_of_ours_is_served_and_reported(cell: CellUnderTest) -> None:
    web, api = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api", port=8080, server=True)
    cell.policy_file("shop.yaml", "policies:\n- {from: acme/shop/web, to: acme/shop/api, tcp: 61443}\n")
    cell.kill("agent")
    with contextlib.closing(sqlite3.connect(cell.lab.root / "var/lib/cellnet/cellnet.db")) as database:
        database.execute("UPDATE attachments SET ports = '[8080, 15008]' WHERE name = 'api'")
        database.commit()
    cell.start(well=False)
    eventually(lambda: reports(cell, "envoy", "api: port 15008 is cellnet's own in every container, so calls to it"))
    assert web.get_tls(api) == f"hello {web.address}\n"
    api.stop()
    cell.wait_well()
