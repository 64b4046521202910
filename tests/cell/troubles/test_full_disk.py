"""The disk is full, or has become read-only: what was allowed goes on and nothing else does, and all comes right by itself."""

from collections.abc import Callable

import pytest

from agent.errors import HostRefused
from lab.cell import Cell
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import LiveConnections
from tests.testlib.containers import Attach
from tests.testlib.disks import SmallDisksCell, full, read_only
from tests.testlib.failures import terminate
from tests.testlib.footprint import expected, footprint, nothing_left
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, follows_policy, three_apps
from tests.testlib.status import problems, reports

LATE = f"policies:\n- {{from: {OTHER}, to: {API}, tcp: 8080}}\n"
UNKNOWN = f"policies:\n- {{from: acme/shop/new, to: {API}, tcp: 8080}}\n"


@pytest.fixture(scope="module")
def cell_kind() -> type[Cell]:
    return SmallDisksCell


def revoked_and_allowed(cell: CellUnderTest, api: Instance, other: Instance) -> bool:
    """Whether policy files do what they say, with room for their copies or without."""
    cell.policy_file("late.yaml", LATE)
    allowed = other.connect(api, 8080)
    live = other.dial(api, 8080)
    cell.remove_policy_file("late.yaml")
    live.settimeout(5)
    return (allowed, other.connect(api, 8080)) == (Connected, Refused) and cut(live.recv)


def cut(receive: Callable[[int], bytes]) -> bool:
    try:
        return receive(1) == b""
    except ConnectionResetError:
        return True


def test_a_full_disk_refuses_what_must_be_kept_and_stops_nothing(cell: CellUnderTest, attach: Attach) -> None:
    web, api, other = three_apps(cell)
    gone = attach("acme/shop/gone")
    cell.allow(API, WEB, "tcp/8080")
    live = LiveConnections(web, api)
    state, logs = cell.lab.root / "var/lib/cellnet", cell.lab.log.parent
    with full(state, logs) as fill:
        assert f"{state} is full" in problems(cell)["disk"]
        with nothing_left(cell), pytest.raises(HostRefused, match="the disk is full") as refused:
            attach("acme/shop/more")
        assert "make room" in refused.value.hint
        for words in (("allow", OTHER, API, "tcp/8080"), ("delete", API, WEB, "tcp/8080")):
            assert "the disk is full" in cell.cellnet("policy", *words, code=1).err
        with pytest.raises(HostRefused, match="the disk is full"):
            cell.client.post("/v1/policies/apply", {"document": LATE.replace("{from", "{name: late, from")})
        assert "No space left on device" in cell.cellnet("ca", "rotate", code=1).err
        assert (other.connect(api, 8080), api.connect(web, 8080)) == (Refused, Connected)
        assert revoked_and_allowed(cell, api, other)
        assert reports(cell, "store", "the disk is full")
        cell.policy_file("unknown.yaml", UNKNOWN)
        assert reports(cell, "policies", "last good version cannot be kept")
        with pytest.raises(HostRefused, match="the disk is full"):
            cell.client.delete("/v1/attachments/gone")
        assert "gone" not in cell.attachments()
        assert "'gone' is not wholly detached yet" in problems(cell)["kernel"]
        assert live.go_on()

        terminate(cell)
        fill()  # the log of the database has gone
        cell.start(well=False)
        eventually(lambda: reports(cell, "store", "cellnet.db"))
        assert "gone" not in cell.attachments(), "what was taken off stays off"
        assert revoked_and_allowed(cell, api, other)
        assert live.go_on()
        assert api.connect(web, 8080) is Connected
    cell.wait_well()
    cell.cellnet("policy", "delete", API, WEB, "tcp/8080")
    assert follows_policy(web, api, other)
    eventually(lambda: footprint(cell) == expected(cell))
    assert gone.name not in cell.attachments()
    new = cell.run_app("acme/shop/new")
    assert new.connect(api, 8080) is Connected
    assert live.go_on()


def test_a_full_run_directory_refuses_new_keys_and_stops_nothing(
    make_cell: Callable[..., CellUnderTest], attach: Attach
) -> None:
    cell = make_cell("tls.leaf_lifetime=6s", kind=SmallDisksCell)
    web, api, other = three_apps(cell)
    live, run = LiveConnections(web, api), cell.lab.root / "run/cellnet"
    with full(run):
        assert f"{run} is full" in problems(cell)["disk"]
        with nothing_left(cell), pytest.raises(HostRefused, match="No space left"):
            attach("acme/shop/more", on=cell)
        eventually(lambda: reports(cell, "identity", "no new certificate for api: cannot write"))
        assert revoked_and_allowed(cell, api, other)
        terminate(cell)
        cell.start(well=False)
        eventually(lambda: reports(cell, "disk", "is full"))
        assert revoked_and_allowed(cell, api, other)
        assert live.go_on()
    cell.wait_well()
    eventually(lambda: web.get_tls(api) == f"hello {web.address}\n")
    assert attach("acme/shop/more", on=cell).environment
    assert footprint(cell) == expected(cell)


def test_a_read_only_state_directory_keeps_no_agent_from_its_work(cell: CellUnderTest, attach: Attach) -> None:
    web, api, other = three_apps(cell)
    cell.allow(OTHER, API, "tcp/9100")
    live = LiveConnections(web, api)
    state = cell.lab.root / "var/lib/cellnet"
    terminate(cell)
    with read_only(state):
        cell.start(well=False)
        eventually(lambda: reports(cell, "disk", f"{state} is read-only"))
        before = footprint(cell)
        with pytest.raises(HostRefused, match=r"cellnet\.db: "):
            attach("acme/shop/more")
        assert footprint(cell) == before == expected(cell)
        assert "cellnet.db: " in cell.cellnet("policy", "delete", OTHER, API, "tcp/9100", code=1).err
        assert revoked_and_allowed(cell, api, other)
        assert reports(cell, "store", "cellnet.db: ")
        assert live.go_on()
        assert follows_policy(web, api, other)
    cell.wait_well()
    assert attach("acme/shop/more").connect(api, 8080) is Refused
    assert live.go_on()
