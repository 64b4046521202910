"""What an instance's processes find in their environment, on a real cell."""

from uuid import UUID

from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import Instance

WEB = "acme/shop/web"


def variables(instance: Instance) -> dict[str, str]:
    """Of a command that is run inside now."""
    return dict(line.split("=", 1) for line in instance.exec("env").splitlines() if "=" in line)


def test_an_instance_has_an_id_of_its_own_for_as_long_as_it_is_attached(cell: CellUnderTest) -> None:
    one, two = (cell.run_app(WEB, name=name) for name in ("one", "two"))
    first = variables(one)["CF_INSTANCE_GUID"]
    assert UUID(first).version == 4
    assert first == one.environment["CF_INSTANCE_GUID"] != variables(two)["CF_INSTANCE_GUID"]
    cell.kill("agent")
    cell.start()
    assert variables(one)["CF_INSTANCE_GUID"] == first
    one.stop()
    assert variables(cell.run_app(WEB, name="one"))["CF_INSTANCE_GUID"] != first
