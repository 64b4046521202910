"""The agent dies: everything goes on, and a new one changes nothing but what must be changed."""

import time
from collections.abc import Callable

import pytest

from agent.errors import Unavailable
from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections, echoed, is_alive, is_reset
from tests.testlib.containers import Attach
from tests.testlib.footprint import expected, footprint
from tests.testlib.instance import TLS_PORT
from tests.testlib.kernel_changes import envoy_updates, kernel_events, rules_generation
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, follows_policy, three_apps
from tests.testlib.unsupervised_cell import UnsupervisedCell


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    """A supervisor waits longer before each start of what dies again and again."""
    return UnsupervisedCell


def lists(cell: CellUnderTest, *names: str) -> bool:
    """Whether `cellnet ps` has exactly these by now."""
    try:
        return cell.attachments() == sorted(names)
    except Unavailable:
        return False


# kill -9 of the agent


def test_traffic_refusals_and_tls_go_on_while_the_agent_is_dead(cell: CellUnderTest) -> None:
    apps = three_apps(cell)
    live = LiveConnections(*apps[:2])
    cell.kill("agent")
    assert live.go_on()
    assert follows_policy(*apps)
    cell.start()
    assert live.go_on()
    assert follows_policy(*apps)


def test_a_new_start_rewrites_nothing(cell: CellUnderTest) -> None:
    web, api, _ = three_apps(cell)
    cell.allow("acme/*/*", API, "tcp/9100-9200")
    live = LiveConnections(web, api)
    rules, sets = cell.rules(), cell.host.run("ipset", "save")
    identity = {path: path.stat().st_mtime_ns for path in (cell.lab.root / "run/cellnet/identity").rglob("*")}
    envoy, generation = envoy_updates(cell), rules_generation(cell.lab.netns)
    said = len(cell.log)
    with kernel_events(cell) as events:
        cell.kill("agent")
        cell.start()
        cell.sync()
        time.sleep(0.3)  # Envoy reports its secrets one by one
    assert events == []
    assert pushed(cell) == 0
    assert rules_generation(cell.lab.netns) == generation
    assert (cell.rules(), cell.host.run("ipset", "save")) == (rules, sets)
    assert envoy_updates(cell) == envoy
    assert len(envoy) > 8, "three listeners, clusters and leaves, and the bundle"
    assert {path: path.stat().st_mtime_ns for path in identity} == identity
    assert [word for word in ("converged", "repaired", "flows_cut", "swept") if f'"{word}"' in cell.log[said:]] == []
    assert live.go_on()


def pushed(cell: CellUnderTest) -> int:
    """How many resources, secrets among them, the agent has sent to Envoy since its start."""
    socket = str(cell.lab.root / "run/cellnet/agent.sock")
    lines = cell.host.run("curl", "-sS", "--unix-socket", socket, "http://cell/v1/metrics").splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("cellnet_envoy_pushed_resources "))


def test_the_kernels_own_words_tell_a_rewrite(cell: CellUnderTest) -> None:
    """What the test above relies on."""
    three_apps(cell)
    generation, envoy, count = rules_generation(cell.lab.netns), envoy_updates(cell), pushed(cell)
    cell.allow(OTHER, API, "tcp/8080")
    assert rules_generation(cell.lab.netns) > generation
    assert envoy_updates(cell) == envoy
    with kernel_events(cell) as events:
        cell.run_app(OTHER, name="more")
    assert events != []
    assert envoy_updates(cell).keys() > envoy.keys()
    assert pushed(cell) == count + 3, "a listener, a cluster, a leaf"


def test_what_was_attached_by_a_dead_agent_can_be_used_and_detached(cell: CellUnderTest) -> None:
    web, api, _ = three_apps(cell)
    cell.kill("agent")
    cell.start()
    assert api.exec("printenv", "CF_INSTANCE_INTERNAL_IP") == f"{api.address}\n"
    assert api.stop() == 128 + 15
    assert web.connect(api.address, 8080) is Refused
    again = cell.run_app(API, port=8080, server=True)
    assert web.get(again, 8080) == web.get_tls(again) == f"hello {web.address}\n"
    assert footprint(cell) == expected(cell)


# what happens while it is dead


def test_a_container_that_ended_meanwhile_is_swept_and_no_other(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    live = LiveConnections(web, api)
    gone = cell.lab.root / "run/cellnet/identity" / other.name
    cell.kill("agent")
    other.kill()
    assert gone.is_dir()
    cell.start(well=False)
    eventually(lambda: lists(cell, api.name, web.name))
    cell.wait_well()
    assert footprint(cell) == expected(cell)
    assert not gone.exists()
    assert live.go_on()


def test_a_namespace_that_went_meanwhile_is_swept(cell: CellUnderTest, attach: Attach, netns: Callable[[str], Netns]) -> None:
    web, api, _ = three_apps(cell)
    live = LiveConnections(web, api)
    place, kept = netns("gone"), netns("kept")
    attach("acme/shop/gone", to=place)
    attach("acme/shop/kept", to=kept)
    cell.kill("agent")
    place.close()
    cell.start(well=False)
    eventually(lambda: lists(cell, api.name, "kept", "other", web.name))
    cell.wait_well()
    assert footprint(cell) == expected(cell)
    assert live.go_on()


def test_a_command_that_ends_while_the_agent_is_dead_leaves_nothing(cell: CellUnderTest) -> None:
    """`cellnet run` cannot detach: it says so, keeps the exit code, and the next agent sweeps."""
    brief = cell.run_app(OTHER, "sh", "-c", "sleep 2; exit 3")
    cell.kill("agent")
    assert brief.runner.wait(20) == 3
    assert "the agent sweeps it" in (cell.lab.root / f"{brief.name}.log").read_text()
    cell.start(well=False)
    eventually(lambda: lists(cell))
    cell.wait_well()
    assert footprint(cell) == expected(cell)


def test_a_policy_file_that_went_meanwhile_cuts_its_live_connections_at_the_start(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    cell.policy_file("other.yaml", f"policies:\n- {{from: {OTHER}, to: {API}, tcp: 9100}}\n")
    kept, revoked = LiveConnections(web, api), pair(other, api, 9100)
    cell.kill("agent")
    cell.remove_policy_file("other.yaml", sync=False)
    assert is_alive(*revoked), "no agent is there to cut it"
    cell.start()
    assert all(map(is_reset, revoked))
    assert other.connect(api, 9100) is Refused
    assert kept.go_on()


def test_a_policy_file_that_came_meanwhile_is_enforced_at_the_start(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    live = LiveConnections(web, api)
    cell.kill("agent")
    cell.policy_file("other.yaml", f"policies:\n- {{from: {OTHER}, to: {API}, tcp: 8080}}\n", sync=False)
    assert other.connect(api, 8080) is Refused
    cell.start()
    assert other.connect(api, 8080) is Connected
    assert live.go_on()


def test_damage_of_the_meantime_is_repaired_at_the_start_and_what_slipped_in_is_cut(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    live = LiveConnections(web, api)
    cell.kill("agent")
    cell.host.run("iptables-nft", "-I", "FORWARD", "-j", "ACCEPT")
    cell.host.run("iptables-nft", "-F", f"CELLNET-{int(api.address):08x}")
    slipped = pair(other, api, 9100)
    assert is_alive(*slipped)
    cell.host.run("iptables-nft", "-D", "FORWARD", "-j", "ACCEPT")
    cell.start()
    assert all(map(is_reset, slipped))
    assert live.go_on()
    assert follows_policy(web, api, other)


# kill -9 of Envoy


def test_plain_traffic_goes_on_without_envoy_and_61443_comes_back_with_it(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    tcp, idle, secure = web.dial(api, 8080), pair(web, api, 9000), web.dial_tls(api)
    generation, before = rules_generation(cell.lab.netns), cell.client.get("/v1/attachments").value
    cell.kill("envoy")
    assert echoed(tcp)
    assert is_alive(*idle)
    assert (web.connect(api, 8080), web.udp(api, 8080), other.connect(api, 8080)) == (Connected, Connected, Refused)
    eventually(lambda: web.connect(api, TLS_PORT) is Refused)
    with pytest.raises(OSError):  # noqa: PT012 -- the end of its connection, by whichever of the two
        secure.sendall(b"echo")
        raise ConnectionResetError if secure.recv(4) == b"" else AssertionError
    assert [each.text("area") for each in cell.status().at("problems").each()] == ["envoy"]
    cell.start()
    eventually(lambda: web.connect(api, TLS_PORT) is Connected)
    assert follows_policy(web, api, other)
    assert echoed(tcp)
    assert is_alive(*idle)
    assert rules_generation(cell.lab.netns) == generation
    assert cell.client.get("/v1/attachments").value == before


def test_detaching_without_envoy_works(cell: CellUnderTest) -> None:
    web, api, _ = three_apps(cell)
    cell.kill("envoy")
    assert api.stop() == 128 + 15
    assert cell.attachments() == ["other", web.name]
    cell.start()
    eventually(lambda: footprint(cell) == expected(cell))
