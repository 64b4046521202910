"""How long an attachment lives: as long as its owner, whatever else holds its namespace, and not a moment for its own sake."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import Conflict
from lab import children
from lab.apps import log_of
from tests.testlib.cell import CellUnderTest
from tests.testlib.connections import is_reset
from tests.testlib.containers import Attach
from tests.testlib.footprint import nothing_left
from tests.testlib.instance import Instance
from tests.testlib.netns import Netns
from tests.testlib.node import Connected, Refused, pair
from tests.testlib.patience import eventually

MakeNetns = Callable[[str], Netns]
SWEEPS = 2.5  # seconds: twice as long as the agent takes to notice a lost owner, and more
TLS = 61443


def gone(cell: CellUnderTest, name: str) -> bool:
    return name not in cell.attachments() and not (cell.lab.root / "run/cellnet/netns" / name).exists()


def runs(pid: int) -> bool:
    """Whether the process has not ended. One whose parent has gone stays a zombie where process 1 does not ask for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def started(cell: CellUnderTest) -> tuple[Instance, int]:
    """An app whose command runs already, and the pid of that."""
    made = cell.run_app("acme/shop/web", "sh", "-c", "echo $$; exec sleep infinity")
    said = log_of(cell.lab, "web")
    eventually(lambda: said.read_text().endswith("\n"))
    return made, int(said.read_text())


def test_a_killed_run_takes_its_command_and_its_attachment_along(cell: CellUnderTest) -> None:
    with nothing_left(cell, swept=True):
        web, command = started(cell)
        assert runs(command)
        web.kill()
        eventually(lambda: not runs(command))


def test_an_attachment_outlives_its_requester_while_its_path_is_there(cell: CellUnderTest, netns: MakeNetns) -> None:
    place = netns("web")
    with nothing_left(cell, swept=True):
        said = cell.cellnet("attach", "--app", "acme/shop/web", "--netns", str(place.path), "--name", "web", "--env").out
        assert said.startswith("CF_INSTANCE_INTERNAL_IP=10.255.1.")
        time.sleep(SWEEPS)
        assert cell.attachments() == ["web"]
        place.close()


def test_a_process_inside_keeps_an_attachment_whose_path_has_gone(
    cell: CellUnderTest, attach: Attach, netns: MakeNetns
) -> None:
    place = netns("web")
    inside = place.start("sleep", "infinity")
    try:
        web = attach("acme/shop/web", to=place)
        place.close()
        time.sleep(SWEEPS)
        assert cell.attachments() == ["web"]
        assert cell.host.connect(web, TLS) is Connected
    finally:
        inside.kill()
        inside.wait()
    eventually(lambda: gone(cell, "web"))


def test_a_name_whose_namespace_has_died_is_taken_over_at_once(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    first, second = netns("first"), netns("second")
    attach("acme/shop/web", to=first)
    with pytest.raises(Conflict):
        attach("acme/shop/web", to=second, name="web")
    first.close()
    web = attach("acme/shop/web", to=second, name="web")
    assert cell.host.connect(web, TLS) is Connected


def test_another_namespace_at_the_same_path_ends_the_attachment_of_the_first(
    cell: CellUnderTest, attach: Attach, netns: MakeNetns
) -> None:
    first, second = netns("web"), netns("second")
    attach("acme/shop/web", to=first)
    first.close()
    first.path.touch()
    subprocess.run(["mount", "--bind", second.path, first.path], check=True)
    eventually(lambda: gone(cell, "web"))


def test_no_process_holds_a_detached_namespace(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    """A link between it and the cell goes when the namespace does: no pin, no socket of Envoy or of the agent is left in it."""
    place, client = netns("web"), attach("acme/shop/client")
    number = int(place.name.split("-")[1])
    cell.host.run("ip", "link", "add", f"probe{number}", "type", "veth", "peer", "name", "probe")
    cell.host.run("ip", "link", "set", "probe", "netns", place.name)
    web = attach("acme/shop/web", to=place)
    cell.allow("acme/shop/client", "acme/shop/web", f"tcp/{TLS}")
    listener = web.listen(8080)
    live = client.dial_tls(web)
    listener.accept()[0].close()
    listener.close()
    cell.client.delete("/v1/attachments/web")
    live.close()
    place.close()
    eventually(lambda: f"probe{number}" not in cell.host.run("ls", "/proc/sys/net/ipv4/conf"), seconds=10)


def test_detach_is_fine_twice_and_for_what_never_was(cell: CellUnderTest, attach: Attach) -> None:
    attach("acme/shop/web")
    cell.cellnet("detach", "web")
    assert cell.cellnet("detach", "web").out == "there was no 'web'\n"
    cell.cellnet("detach", "never-was")
    cell.cellnet("detach", "not a name", code=2)


def test_detach_of_a_running_app_cuts_it_off_and_lets_it_run(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    (api,) = cell.containers("acme/shop/api")
    cell.policy_file("shop.yaml", "policies:\n- {from: acme/shop/web, to: acme/shop/api, tcp: [8080, 9000]}\n")
    client, server = pair(web, api, 9000)
    cell.cellnet("detach", "api")
    assert is_reset(client)
    assert is_reset(server)
    assert web.connect(api.address, 8080) is Refused
    assert api.runner.poll() is None
    api.runner.terminate()
    assert api.runner.wait(10) == 128 + signal.SIGTERM


def test_a_stopped_run_is_detached_when_it_returns(cell: CellUnderTest) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        web, _ = started(cell)
        web.runner.send_signal(number)
        assert web.runner.wait(10) == 128 + number
        assert cell.attachments() == []


def test_a_run_that_is_stopped_at_its_very_start_reports_it(cell: CellUnderTest) -> None:
    """Before its command runs, or before that has done anything."""
    with nothing_left(cell, swept=True):
        assert [cell.run_app("acme/shop/web", name=f"web-{number}").stop() for number in range(10)] == [
            128 + signal.SIGTERM
        ] * 10


def test_a_run_that_is_killed_while_it_attaches_leaves_nothing(cell: CellUnderTest) -> None:
    """At many moments of its start: before, in the middle of and after the attach."""
    with nothing_left(cell, swept=True):
        for delay in range(0, 160, 10):
            argv = ["run", "--app", "acme/shop/web", "--name", f"web-{delay}", "--", "sleep", "infinity"]
            words = ["nsenter", f"--net={cell.lab.netns}", "--", *children.CELLNET, *argv]
            started = subprocess.Popen(words, env=children.environment(cell.lab.root), stderr=subprocess.DEVNULL)
            time.sleep(delay / 1000)
            started.kill()
            started.wait()


def test_a_link_that_its_container_removed_comes_back(cell: CellUnderTest, attach: Attach, netns: MakeNetns) -> None:
    """At once where nothing is in its place; else the status reports what is, and the others are not disturbed."""
    place, other = netns("web"), attach("acme/shop/other")
    web = attach("acme/shop/web", to=place)
    place.run("ip", "link", "del", "eth0")
    eventually(lambda: cell.host.connect(web, TLS) is Connected)
    place.run("ip", "-batch", "-", stdin=b"link del eth0\nlink add eth0 type bridge\n")
    eventually(lambda: "web: cannot make" in cell.cellnet("status", code=None).out)
    assert cell.host.connect(other, TLS) is Connected
    web.stop()
    assert cell.wait_well().flag("ok")
