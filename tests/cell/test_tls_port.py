"""61443 as an operator sees it: opened again when somebody has closed it."""

import os
import signal

from tests.testlib.cell import CellUnderTest, eventually
from tests.testlib.instance import TLS_PORT
from tests.testlib.standpoint import Refused

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: [8080, 61443]}}\n"


def test_a_port_that_root_inside_has_closed_is_told_opened_again_and_counted(cell: CellUnderTest) -> None:
    """Envoy is frozen meanwhile, so that there is time to see it closed."""
    web, api = cell.containers(WEB, API)
    cell.policy_file("shop.yaml", POLICY)
    before = int(cell.status().text("repairs"))
    os.kill(cell.envoy_pid, signal.SIGSTOP)
    try:
        api.run("ss", "-K", "-ltn", "sport", "=", f":{TLS_PORT}")
        assert web.connect(api, TLS_PORT) is Refused
        eventually(lambda: any("api: its TLS port is not open" in each for each in problems(cell)))
        assert tls_states(cell) == {"web": "ready", "api": "waiting"}
    finally:
        os.kill(cell.envoy_pid, signal.SIGCONT)
    eventually(lambda: int(cell.status().text("repairs")) == before + 1)
    assert web.get_tls(api) == f"hello {web.address}\n"
    eventually(lambda: cell.status().flag("ok"))
    assert tls_states(cell) == {"web": "ready", "api": "ready"}


def problems(cell: CellUnderTest) -> list[str]:
    return [each.text("what") for each in cell.status().at("problems").each()]


def tls_states(cell: CellUnderTest) -> dict[str, str]:
    return {each.text("name"): each.at("tls").text("state") for each in cell.client.get("/v1/attachments").each()}
