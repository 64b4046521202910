"""What `status` reports of an Envoy that has just been started again."""

from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import TLS_PORT
from tests.testlib.node import Connected
from tests.testlib.patience import eventually
from tests.testlib.shop import three_apps


def test_a_cell_is_well_only_when_all_tls_ports_are_open(cell: CellUnderTest) -> None:
    web, api, _ = three_apps(cell)
    for _ in range(3):
        cell.kill("envoy", again=True)
        eventually(lambda: not cell.status().flag("ok"))
        cell.wait_well()
        assert web.connect(api, TLS_PORT) is Connected
    cell.stop()
    cell.start()
    assert web.connect(api, TLS_PORT) is Connected
