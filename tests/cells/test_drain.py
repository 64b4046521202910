"""`cellnet drain` among several cells in strict mode: names leave everywhere at once, calls through tunnels are waited for."""

from collections.abc import Callable

from tests.cells.conftest import Place
from tests.testlib.cells import CellsUnderTest
from tests.testlib.names import leads
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB

TRACES = (
    ("ipset", "list", "-name"),
    ("iptables-nft-save",),
    ("ip", "link", "show", "type", "vxlan"),
    ("ip", "route", "show", "proto", "157"),
)
NAME = "api.shop.acme.cell.internal"


def test_every_cell_stops_naming_a_drained_one_and_its_call_through_a_tunnel_ends_by_itself(
    make_cells: Callable[..., CellsUnderTest], place: Place
) -> None:
    first, second = cells = make_cells(2, "tls.mtls=strict")
    going, staying = place(first, API, 8080, name="going"), place(second, API, 8080, name="staying")
    web = place(second, WEB)
    cells.allow(WEB, API, "tcp/8080")
    eventually(lambda: leads(web, NAME, going, staying))
    stream = web.dial(going, 8080)
    first.client.post("/v1/drain", {"timeout": 300})
    eventually(lambda: leads(web, NAME, staying))
    eventually(lambda: [each.text("connections") for each in first.client.get("/v1/drain").at("waiting").each()] == ["1"])
    eventually(lambda: "all alive, drained: cell-1\n" in second.cellnet("status").out)
    eventually(lambda: "this cell, drained" in first.cellnet("cell", "list").out)
    stream.sendall(b"?")
    stream.close()
    eventually(lambda: first.attachments() == [])
    assert second.attachments() == ["staying", "web"]
    first.cellnet("teardown")
    left = [first.host.run(*each) for each in TRACES]
    assert "".join(left) == ""
    assert web.get(staying, 8080) == f"hello {web.address}\n"
