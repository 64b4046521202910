"""`cellnet up` and its children: a child that is killed is started again, and the containers live on."""

import os
import signal
from collections.abc import Callable

import pytest

from host import process
from lab.cell import Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import echoed, is_alive, is_ended
from tests.testlib.footprint import expected, footprint
from tests.testlib.instance import TLS_PORT
from tests.testlib.kernel_changes import kernel_events, rules_generation
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB, follows_policy, three_apps, web_to_api


def test_the_children_of_a_killed_up_end_and_a_new_one_takes_over(cell: CellUnderTest) -> None:
    apps = three_apps(cell)
    web, api, _ = apps
    tcp, idle = web.dial(api, 8080), pair(web, api, 9000)
    children = cell.agent_pid, cell.envoy_pid
    generation = rules_generation(cell.lab.netns)
    cell.kill("up")
    assert all(map(ended, children))
    assert echoed(tcp)
    assert is_alive(*idle)
    assert (web.connect(api, 8080), web.connect(api, 8081)) == (Connected, Refused)
    cell.start()
    eventually(lambda: web.connect(api, TLS_PORT) is Connected)
    assert follows_policy(*apps)
    assert echoed(tcp)
    assert is_alive(*idle)
    assert rules_generation(cell.lab.netns) == generation
    assert cell.run_app("acme/shop/more").runner.poll() is None
    assert footprint(cell) == expected(cell)


def test_stopping_up_changes_nothing_in_the_kernel(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    tcp = web.dial(api, 8080)
    generation = rules_generation(cell.lab.netns)
    with kernel_events(cell) as events:
        cell.stop()
    assert (events, rules_generation(cell.lab.netns)) == ([], generation)
    assert echoed(tcp)
    assert (web.connect(api, 8080), other.connect(api, 8080)) == (Connected, Refused)
    cell.start()
    assert echoed(tcp)


def test_with_mutual_tls_stopping_up_ends_what_is_in_tunnels_and_an_agent_that_is_started_anew_does_not(
    make_cell: Callable[..., CellUnderTest],
) -> None:
    cell = make_cell("tls.mtls=strict")
    web, api = cell.containers(WEB, API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 8080"))
    cell.wait_well()
    stream, agent, envoy = web.dial(api, 8080), cell.lab.part(Part.AGENT), cell.lab.part(Part.ENVOY)
    os.kill(int(cell.status().at("cell").text("pid")), signal.SIGTERM)
    eventually(lambda: cell.lab.part(Part.AGENT) not in (agent, None))
    cell.wait_well()
    assert (cell.lab.part(Part.ENVOY), echoed(stream)) == (envoy, True)
    cell.stop()
    assert is_ended(stream)
    with pytest.raises(ConnectionRefusedError):
        web.dial(api, 8080)
    cell.start()
    assert echoed(web.dial(api, 8080))


def ended(pid: int) -> bool:
    """Wait for the end of a process."""
    eventually(lambda: process.start_time(pid) is None)
    return True


def test_a_new_up_right_after_a_killed_one_takes_over_again_and_again(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    tcp, generation = web.dial(api, 8080), rules_generation(cell.lab.netns)
    for _ in range(3):
        dying = cell.agent_pid
        cell.kill("up")
        cell.start(well=False)
        assert ended(dying)
        cell.wait_well()
        assert echoed(tcp)
    eventually(lambda: web.connect(api, TLS_PORT) is Connected)
    assert follows_policy(web, api, other)
    assert rules_generation(cell.lab.netns) == generation


def test_an_envoy_that_ends_again_and_again_serves_again(cell: CellUnderTest) -> None:
    web, api, _ = three_apps(cell)
    for _ in range(2):
        cell.kill("envoy", again=True)
        cell.wait_well()
        eventually(lambda: web.connect(api, TLS_PORT) is Connected)
        assert web.get_tls(api) == f"hello {web.address}\n"


def test_a_killed_agent_is_started_again(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    killed = cell.agent_pid
    cell.kill("agent", again=True)
    eventually(lambda: cell.lab.part(Part.AGENT) is not None)
    cell.wait_well()
    assert cell.agent_pid != killed
    assert follows_policy(web, api, other)


def test_a_mistake_in_the_configuration_of_a_running_cell_takes_nothing_down(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    secure, envoy = web.dial_tls(api), cell.envoy_pid
    config = cell.lab.policies.parent / "agent.yaml"
    before = config.read_text()
    config.write_text(before + "overly: {}\n")
    cell.kill("agent", again=True)
    eventually(lambda: "unknown key 'overly'" in cell.cellnet("status", code=1).err)
    assert echoed(secure)
    assert (web.connect(api, TLS_PORT), cell.envoy_pid) == (Connected, envoy)
    config.write_text(before)
    cell.wait_well()
    assert cell.envoy_pid == envoy
    assert follows_policy(web, api, other)


def test_a_second_up_is_refused_and_disturbs_nothing(cell: CellUnderTest) -> None:
    web, api, other = three_apps(cell)
    secure = web.dial_tls(api)
    agent, envoy, generation = cell.agent_pid, cell.envoy_pid, rules_generation(cell.lab.netns)
    said = cell.cellnet("up", code=1).err
    assert "`cellnet up` runs in this network namespace already" in said
    assert (cell.agent_pid, cell.envoy_pid, rules_generation(cell.lab.netns)) == (agent, envoy, generation)
    assert echoed(secure)
    assert follows_policy(web, api, other)
