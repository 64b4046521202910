"""A real podman: its containers have addresses of the overlay, policies hold for them, they go when podman removes them."""

import os
import signal
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks
from tests.testlib.engines.podman import Podman, podman_of
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually

SERVER = ("python3", "-m", "http.server", "8080")


def test_policies_hold_for_containers_which_go_when_podman_removes_them(cell: CellUnderTest, podman: Podman) -> None:
    api, web = podman.container("api", "acme/shop/api", command=SERVER), podman.container("web", "acme/shop/web")
    found = cell.client.get("/v1/attachments/web")
    assert (found.text("app"), found.text("address")) == ("acme/shop/web", str(web.address))
    assert web.connect(api, 8080) is Refused
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: web.connect(api, 8080) is Connected)
    podman("stop", "--time=0", "api")
    eventually(lambda: cell.attachments() == ["web"])
    podman("start", "api")
    assert cell.client.get("/v1/attachments/api").text("address") == str(podman.address("api"))
    podman.remove("web", "api")
    eventually(lambda: cell.attachments() == [])


def test_a_container_that_says_no_app_does_not_start_and_its_user_reads_why(cell: CellUnderTest, podman: Podman) -> None:
    done = podman.run("web", code=None)
    assert done.code != 0
    assert "nothing says which app 'web' is" in done.err
    assert "hint: say it with --network-alias ORG/SPACE/APP" in done.err
    assert cell.attachments() == []


def test_a_reservation_says_what_a_container_of_that_name_is(cell: CellUnderTest, podman: Podman) -> None:
    cell.cellnet("reserve", "api", "--app=acme/shop/api", "--port=8080", "--instance=3")
    podman.container("api", command=SERVER)
    found = cell.client.get("/v1/attachments/api")
    assert (found.text("app"), found.text("instance"), found.texts("ports")) == ("acme/shop/api", "3", ("8080",))
    assert "api   acme/shop/api  3 " in cell.cellnet("reservations").out
    cell.cellnet("release", "api")
    assert cell.attachments() == ["api"]
    podman.remove("api")
    assert podman.run("api", code=None).code != 0


def test_a_reserved_container_knows_its_place_and_has_it_again_after_restarts_of_all(
    cell: CellUnderTest, podman: Podman
) -> None:
    options = cell.cellnet("reserve", "api", "--app=acme/shop/api", "--key-owner=1000", "--podman").out.split()
    (reserved,) = cell.client.get("/v1/reservations").each()
    address = reserved.text("address")
    cell.run_app("acme/shop/api", name="another")
    podman.run("api", options=options)
    read = (
        "echo $CF_INSTANCE_INTERNAL_IP $CF_INSTANCE_INDEX $CF_INSTANCE_GUID; head -1 $CF_INSTANCE_CERT; ls $CF_SYSTEM_CERT_PATH"
    )
    inside = podman("exec", "api", "sh", "-c", read).out.splitlines()
    assert inside[0].split()[:2] == [address, "0"]
    assert inside[1] == "-----BEGIN CERTIFICATE-----"
    assert podman("exec", "--user=1000", "api", "sh", "-c", "head -1 $CF_INSTANCE_KEY").out.startswith("-----BEGIN")
    assert podman("exec", "--user=1001", "api", "sh", "-c", "cat $CF_INSTANCE_KEY", code=None).code != 0
    podman("stop", "--time=0", "api")
    cell.run_app("acme/shop/other")
    cell.stop()
    cell.start()
    podman("start", "api")
    assert podman("exec", "api", "sh", "-c", read).out.splitlines() == inside
    assert podman.address("api") == IPv4Address(address)
    podman.remove("api")
    folder = cell.lab.root / "run/cellnet/identity/api"
    assert folder.is_dir()
    cell.cellnet("release", "api")
    assert not folder.exists()
    assert not (cell.lab.root / "run/cellnet/env/api").exists()


def test_a_network_may_be_that_of_one_app(cell: CellUnderTest, podman: Podman) -> None:
    podman.network(app="acme/shop/web")
    podman.container("first")
    podman.container("other", "acme/shop/api")
    apps = {each.text("name"): each.text("app") for each in cell.client.get("/v1/attachments").each()}
    assert apps == {"first": "acme/shop/web", "other": "acme/shop/api"}


@pytest.mark.parametrize("option", ["--ip=10.255.1.77", "--mac-address=02:00:00:00:00:01"])
def test_what_cellnet_gives_itself_is_refused_and_not_left_out(cell: CellUnderTest, podman: Podman, option: str) -> None:
    done = podman.run("web", options=["--network-alias=acme/shop/web", option], code=None)
    assert done.code != 0
    assert "address, which cellnet gives itself" in done.err
    assert "hint: leave it out" in done.err
    assert cell.attachments() == []


def test_podman_that_makes_networks_anew_gives_a_container_its_address_again(cell: CellUnderTest, podman: Podman) -> None:
    web = podman.container("web", "acme/shop/web")
    podman("network", "reload", "web")
    assert podman.address("web") == web.address
    assert cell.client.get("/v1/attachments/web").text("address") == str(web.address)


def test_inside_the_resolver_is_the_cells_alone_and_knows_the_others(cell: CellUnderTest, podman: Podman) -> None:
    options = cell.cellnet("reserve", "web", "--app=acme/shop/web", "--podman").out.split()
    web = podman.container("web", options=options[1:])
    api = podman.container("api", "acme/shop/api")
    lines = web.exec("cat", "/etc/resolv.conf").splitlines()
    wanted = {"search shop.acme.cell.internal acme.cell.internal", "nameserver 169.254.0.2", "options ndots:2 edns0"}
    assert set(lines) - {""} == wanted
    for name in ("api", "api.shop"):
        eventually(lambda name=name: web.exec("getent", "ahostsv4", name).split()[:1] == [str(api.address)])  # type: ignore[misc]


def test_without_an_agent_none_starts_and_those_that_run_can_be_removed(cell: CellUnderTest, podman: Podman) -> None:
    podman.container("web", "acme/shop/web")
    cell.kill("agent")
    done = podman.run("api", options=["--network-alias=acme/shop/api"], code=None)
    assert done.code != 0
    assert "no agent of cellnet answers at" in done.err
    assert "hint: see whether cellnet-agent.service, or 'cellnet up', runs" in done.err
    podman("rm", "--force", "--time=0", "web", code=None)
    assert podman("ps", "--all", "--format={{.Names}}").out.split() in ([], ["api"])
    cell.start()
    eventually(lambda: cell.attachments() == [])


def test_the_kill_of_what_watches_a_container_leaves_nothing(cell: CellUnderTest, podman: Podman) -> None:
    podman.container("web", "acme/shop/web")
    pid = int(podman("inspect", "--format={{.State.ConmonPid}}", "web").out)
    os.kill(pid, signal.SIGKILL)
    podman.remove("web")
    eventually(lambda: cell.attachments() == [])


def test_a_container_of_another_user_namespace_is_attached_like_others(cell: CellUnderTest, podman: Podman) -> None:
    podman.give_to(100000)
    api = podman.container("api", "acme/shop/api", command=SERVER, options=["--uidmap=0:100000:65536"])
    web = podman.container("web", "acme/shop/web")
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: web.connect(api, 8080) is Connected)


def test_a_held_namespace_has_environment_and_certificates_for_the_container_that_joins_it(
    cell: CellUnderTest, podman: Podman
) -> None:
    options = cell.cellnet("hold", "web", "--app=acme/shop/web", "--podman").out.split()
    podman.run("anything", options=options)
    inside = podman("exec", "anything", "sh", "-c", "echo $CF_INSTANCE_INTERNAL_IP; cat $CF_INSTANCE_CERT $CF_INSTANCE_CA").out
    assert inside.splitlines()[0] == cell.client.get("/v1/attachments/web").text("address")
    assert inside.count("BEGIN CERTIFICATE") >= 2
    assert "nameserver 169.254.0.2\n" in podman("exec", "anything", "cat", "/etc/resolv.conf").out
    podman.remove("anything")
    assert cell.attachments() == ["web"]
    cell.cellnet("release", "web")
    assert cell.attachments() == []


def test_the_commands_of_the_page_about_engines_do_what_it_says(cell: CellUnderTest, podman: Podman) -> None:
    set_up, *used = blocks("docs/engines.md", test="tests/cell/engines/test_podman.py")
    if podman.has_cni:
        podman.forget_network()
        assert '"name": "cellnet"' in podman.shell(set_up)
        podman.network()  # of this cell's agent
    started, held = map(podman.shell, used)
    assert "db     acme/shop/db" in started
    assert "nameserver 169.254.0.2" in started
    assert "BEGIN CERTIFICATE" in held
    assert cell.attachments() == []


def test_a_port_that_podman_is_to_publish_opens_by_policy(cell: CellUnderTest, podman: Podman) -> None:
    podman.container("api", "acme/shop/api", command=SERVER, options=["--publish=8000:8080"])
    assert cell.outside.connect(cell.host, 8000) is Refused
    cell.policy_file("in.yaml", "policies: [{from: {cidr: 0.0.0.0/0}, to: acme/shop/api, tcp: 8080}]")
    eventually(lambda: cell.outside.connect(cell.host, 8000) is Connected)
    assert cell.attachments() == ["api"]
    assert "all is well" in cell.cellnet("status").out, "podman holds the port itself, too"
    taken = cell.cellnet("run", "--app", "acme/shop/other", "--publish", "8000:1", "--", "true", code=1).err
    assert "port 8000/tcp of this host is taken" in taken or "is published by" in taken
    cell.cellnet("reserve", "late", "--app", "acme/shop/api", "--publish", "8000:8080")
    done = podman.run("late", options=[], code=None)
    assert done.code != 0
    assert "conmon" in done.err, "what podman holds for another container is taken"
    cell.cellnet("release", "late")
    done = podman.run("other", options=["--network-alias=acme/shop/api", "--publish=8000:8080"], code=None)
    assert done.code != 0
    assert cell.attachments() == ["api"]


def test_containers_of_podman_call_each_other_through_tunnels_in_strict_mode(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("tls.mtls=strict")
    with podman_of(cell) as podman:
        api, web = podman.container("api", "acme/shop/api", command=SERVER), podman.container("web", "acme/shop/web")
        call = f"import urllib.request as r; print(r.urlopen('http://{api.address}:8080/', timeout=5).status)"
        assert podman("exec", "web", "python3", "-c", call, code=None).code != 0
        cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
        eventually(lambda: podman("exec", "web", "python3", "-c", call, code=None).out == "200\n")
        assert str(web.address) in podman("logs", "api").err
