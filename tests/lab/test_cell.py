"""The words of end-to-end tests, on a real cell; what one of them says of the product is tested beside the product."""

import os
import ssl
from collections.abc import Callable

import pytest

from lab.cell import Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_alive, is_reset
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually

POLICY = "policies:\n- {from: acme/shop/web, to: acme/shop/api, tcp: [8080, 61443], udp: 8080}\n"


def test_apps_reach_each_other_as_a_policy_file_says(cell: CellUnderTest) -> None:
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    assert (web.connect(api, 8080), web.udp(api, 8080), web.connect(api, 61443)) == (Refused,) * 3
    cell.policy_file("shop.yaml", POLICY)
    assert (web.connect(api, 8080), web.udp(api, 8080), api.connect(web, 8080)) == (Connected, Connected, Refused)
    assert web.get(api, 8080) == f"hello {web.address}\n"
    assert api.callers(8080) == [str(web.address)] * 2


def test_tls_is_verified_for_address_and_route(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    api = cell.run_app("acme/shop/api", port=8080, server=True, routes=["api.apps.internal"])
    cell.policy_file("shop.yaml", POLICY)
    assert web.get_tls(api) == web.get_tls(api, name="api.apps.internal") == f"hello {web.address}\n"
    assert web.get_tls(api, context=web.tls_context(show=web)) == f"hello {web.address}\n"
    with pytest.raises(ssl.SSLCertVerificationError):
        web.get_tls(api, name="other.apps.internal")


def test_both_ends_of_a_live_connection_are_in_the_test(cell: CellUnderTest) -> None:
    web, api = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api")
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/9000")
    client, server = pair(web, api, 9000)
    assert is_alive(client, server)
    cell.cellnet("policy", "delete", "acme/shop/web", "acme/shop/api", "tcp/9000")
    cell.sync()
    assert is_reset(client)
    assert is_reset(server)


def test_a_killed_agent_stays_dead_until_it_is_started(cell: CellUnderTest) -> None:
    web, api = cell.containers("acme/shop/web", "acme/shop/api")
    cell.policy_file("shop.yaml", POLICY)
    killed = cell.agent_pid
    cell.kill("agent")
    assert cell.cellnet("ps", code=1).err.startswith("error: no agent answers")
    assert web.connect(api, 8080) is Connected
    cell.start()
    assert cell.agent_pid != killed
    assert cell.attachments() == ["api", "web"]


def test_the_supervisor_brings_back_what_is_killed(cell: CellUnderTest) -> None:
    killed = cell.envoy_pid
    cell.kill("envoy", again=True)
    eventually(lambda: (found := cell.lab.part(Part.ENVOY)) is not None and found.pid != killed)
    cell.wait_well()


def test_a_cell_is_tidy_for_the_next_test(cell: CellUnderTest) -> None:
    assert cell.attachments() == []
    assert cell.status().at("policies").text("from_files") == "0"
    assert cell.run_app("acme/shop/web").name == "web"


def test_exec_passes_exit_codes(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    assert web.exec("sh", "-c", "echo $CF_INSTANCE_INTERNAL_IP") == f"{web.address}\n"
    web.exec("sh", "-c", "exit 7", code=7)


def test_an_app_that_is_stopped_is_detached(cell: CellUnderTest) -> None:
    assert cell.run_app("acme/shop/web").stop() == 128 + 15
    eventually(lambda: cell.attachments() == [])  # swept, where the signal came before the command ran


def test_a_cell_has_an_uplink_and_forwards_by_itself(cell: CellUnderTest) -> None:
    with cell.outside.listen(80):
        assert cell.host.connect(cell.outside, 80) is Connected
    assert cell.host.run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"


def test_overrides_reach_an_agent_that_is_not_in_the_machines_namespace(make_cell: Callable[..., CellUnderTest]) -> None:
    made = make_cell("overlay.network=10.200.0.0/16", "cell=alone")
    cell = made.status().at("cell")
    assert (cell.text("name"), cell.text("overlay")) == ("alone", "10.200.0.0/16")
    assert made.lab.root.stat().st_mode & 0o777 == 0o755
    assert os.stat(f"/proc/{made.agent_pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino


def test_a_cell_whose_supervisor_was_killed_can_be_started_again(cell: CellUnderTest) -> None:
    killed = cell.agent_pid
    cell.kill("up")
    cell.start()
    assert cell.agent_pid != killed
