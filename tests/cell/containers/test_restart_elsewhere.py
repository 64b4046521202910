"""`cellnet up` started again in another mount namespace, as `ip netns exec` makes one each time: earlier pins are not there."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent.errors import Unavailable
from host import syscalls
from lab import children
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import echoed
from tests.testlib.instance import TLS_PORT, Instance
from tests.testlib.node import Connected, Node, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import three_apps

STAYED = "'web' was detached when its owner ended, but processes live on in its namespace without a network"
NOT_LASTING = "is another folder for this agent than for the host"
PIN = """
import sys
from pathlib import Path
from host.namespace import create, is_pin
create(Path(sys.argv[1]))
print(is_pin(Path(sys.argv[1])))
"""


def start_elsewhere(cell: CellUnderTest) -> None:
    """Start `up` in a mount namespace of its own, where the pins of the last one have gone."""
    cell.stop()
    for pin in (cell.lab.root / "run/cellnet/netns").iterdir():
        syscalls.umount(str(pin))
    words = ["unshare", "--mount", *children.CELLNET, "--root", str(cell.lab.root), "up"]
    children.start(words, netns=cell.lab.netns, root=cell.lab.root, log=cell.lab.log)
    eventually(lambda: is_well(cell))


def is_well(cell: CellUnderTest) -> bool:
    """But for pins that end with it, on a host whose process 1 has mounts that nobody may enter."""
    with suppress(Unavailable):
        return all(NOT_LASTING in each.text("what") for each in cell.status().at("problems").each())
    return False


def inside(app: Instance) -> Node:
    """The app's namespace by its process: the pin is not seen from here."""
    runner = app.runner.pid
    child = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()[0]
    return Node(Path(f"/proc/{child}/ns/net"), address=app.address)


def test_containers_whose_pins_have_gone_stay_attached_and_connected(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell()
    web, api, other = three_apps(cell)
    tcp, names = web.dial(api, 8080), cell.attachments()
    start_elsewhere(cell)
    assert cell.attachments() == names
    assert echoed(tcp)
    caller, stranger = inside(web), inside(other)
    eventually(lambda: caller.connect(api, TLS_PORT) is Connected)
    assert (caller.connect(api, 8080), stranger.connect(api, 8080)) == (Connected, Refused)
    for node in (caller, stranger):
        node.close()
    assert api.stop() in (0, 128 + signal.SIGTERM)
    assert cell.attachments() == sorted(set(names) - {"api"})


def test_a_process_that_lives_on_in_a_swept_namespace_is_a_problem(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    left = children.start(["sleep", "1000"], netns=web.pin, root=cell.lab.root, log=cell.lab.log)
    assert web.exec("true") == ""
    web.runner.kill()
    eventually(lambda: [each.text("what") for each in cell.status().at("problems").each()] == [STAYED])
    left.kill()
    left.wait()
    cell.wait_well()


@pytest.mark.parametrize("propagation", ["slave", "private"])
def test_a_pin_outlives_the_mount_namespace_of_the_program_that_makes_it(propagation: str) -> None:
    """Among the mounts of process 1, which is the shell here, and where they are seen from a namespace of its own."""
    with TemporaryDirectory(dir="/run") as folder:
        inner = f"unshare --mount --propagation {propagation} {sys.executable} -c '{PIN}' {folder}/pin"
        outer = ["unshare", "--pid", "--fork", "--mount-proc", "--mount", "--propagation", "private", "sh", "-c"]
        # shared among these alone, not with this host
        script = f"mount --make-rshared / && {inner} && stat -f -c %T {folder}/pin"
        done = children.run([*outer, script], netns=None, root=Path(folder), timeout=20)
        assert done.out.split() == ["True", "nsfs"], done.err
