"""`cellnet lab`, run as a user runs it: what it says, what it returns, and that nothing is left of it, however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.folders import BASE
from lab.processes import Process, all_processes
from tests.testlib.patience import eventually
from tests.testlib.users import NOBODY

CELLNET = (sys.executable, "-P", "-m", "agent")
DEMO = ("demo", "--cells", "1")
STEPS = (
    "Start the agent, Envoy and DNS",
    "Start two apps",
    "An app knows its address",
    "no policy allows it",
    "A policy file is dropped in",
    "web needs no address",
    "The same over TLS on 61443",
    "Who answered?",
    "The policy is removed while a connection lives",
    "All on one screen",
)
TOUR = (
    "Start 3 cells and an etcd",
    "Start two apps, on different cells",
    "no policy allows it",
    "A policy is stored from cell 3",
    "web needs no address",
    "The same over TLS on 61443",
    "web is scaled to cell 3",
    "The policy is deleted while a connection lives",
    "etcd dies",
    "The agent of api's cell dies, too",
    "Both come back",
    "Between the cells, anybody can read what they say",
    "Mutual TLS for every TCP connection, and the apps run on as they are",
)
MANY = ("up", "--cells", "3")
STARTED = 60.0  # seconds; three agents share the processors with whatever else runs
pytestmark = pytest.mark.xdist_group("lab")  # there is one lab on a machine


def lab(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*CELLNET, "lab", *words], capture_output=True, text=True, timeout=100, check=False)


def started(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([*CELLNET, "lab", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def mounts() -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{BASE}/" in line]


def inhabitants() -> list[tuple[str, ...]]:
    """Processes that the lab has started: everything in it has this in its environment, and our root."""
    return [each.command for each in all_processes() if each.pid != os.getpid() and _of_the_lab(each)]


def _of_the_lab(found: Process) -> bool:
    try:
        ours = os.path.samestat(os.stat(f"/proc/{found.pid}/root"), os.stat("/"))  # not those of a container with a lab
        return ours and f"CELLNET_ROOT={BASE}/".encode() in Path(f"/proc/{found.pid}/environ").read_bytes()
    except OSError:
        return False


def assert_nothing_is_left() -> None:
    assert (BASE.exists(), mounts(), inhabitants()) == (False, [], [])


@pytest.fixture(autouse=True)
def lab_of_this_machine() -> Iterator[None]:
    """These tests use the place that users use, and leave it empty."""
    if BASE.exists():
        pytest.fail(f"{BASE} is in use: cellnet lab down")
    yield
    lab("down")
    assert_nothing_is_left()


def own_network() -> tuple[object, ...]:
    """The machine's own links, routes and forwarding."""
    files = ("/proc/net/route", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/rp_filter")
    return sorted(os.listdir("/sys/class/net")), *(Path(file).read_text() for file in files)


def test_the_demo_gives_every_answer_twice_in_a_row() -> None:
    before = own_network()
    for _ in range(2):
        done = lab(*DEMO)
        assert done.returncode == 0, done.stdout + done.stderr
        assert_nothing_is_left()
        for number, title in enumerate(STEPS, 1):
            assert re.search(rf"(?m)^{number}\. .*{re.escape(title)}", done.stdout), title
        assert own_network() == before
        assert "UNEXPECTED" not in done.stdout
        assert "\x1b" not in done.stdout
        for said in ("200 OK", "refused at once", "was reset", "spiffe://cell.internal/org/acme/space/shop/app/api"):
            assert said in done.stdout


def test_the_tour_of_three_cells_gives_every_answer() -> None:
    before = own_network()
    done = lab("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_is_left()
    assert own_network() == before
    assert re.findall(r"(?m)^\d+\. (.+)$", done.stdout)[-1] == TOUR[-1]
    for number, title in enumerate(TOUR, 1):
        assert re.search(rf"(?m)^{number}\. .*{re.escape(title)}", done.stdout), title
    assert "UNEXPECTED" not in done.stdout
    for said in ("refused at once", "200 OK", "its first packet passes", "was reset", "traffic goes on"):
        assert said in done.stdout


@pytest.mark.parametrize("title", [STEPS[0], STEPS[1], STEPS[5], STEPS[7]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing(title: str, number: signal.Signals) -> None:
    demo = started(*DEMO)
    assert demo.stdout is not None
    for line in demo.stdout:
        if title.encode() in line:
            break
    demo.send_signal(number)
    demo.send_signal(number)  # impatient users press it twice
    demo.stdout.read()
    assert demo.wait(30) == 128 + number
    assert_nothing_is_left()


def test_what_a_killed_demo_left_is_removed_by_the_next() -> None:
    demo = started(*DEMO)
    assert demo.stdout is not None
    for line in demo.stdout:
        if STEPS[3].encode() in line:
            break
    demo.kill()
    demo.wait()
    assert inhabitants() != []
    assert lab(*DEMO).returncode == 0
    assert_nothing_is_left()


def test_down_removes_a_lab_whose_processes_were_all_killed() -> None:
    assert lab("up").returncode == 0
    for each in all_processes():
        if _of_the_lab(each):
            each.send(signal.SIGKILL)
    eventually(lambda: inhabitants() == [])
    assert lab("down").returncode == 0
    assert_nothing_is_left()


def test_down_takes_containers_and_their_orphans_along() -> None:
    assert lab("up").returncode == 0
    runner = started("exec", "1", "--", "cellnet", "run", "--app", "a/b/c", "--", "sh", "-c", "setsid sleep 1000 & sleep 1000")
    eventually(lambda: inhabitants().count(("sleep", "1000")) == 2)
    runner.kill()  # its command goes with it, its command's children do not
    runner.wait()
    eventually(lambda: not list((BASE / "1/run/cellnet/netns").iterdir()))  # the agent has swept it: nothing pins them
    assert ("sleep", "1000") in inhabitants()
    assert lab("down").returncode == 0
    assert_nothing_is_left()


def test_exec_runs_in_the_cell_and_passes_exit_codes() -> None:
    assert lab("up").returncode == 0
    assert lab("exec", "1", "--", "sh", "-c", "exit 7").returncode == 7
    assert lab("exec", "1", "--", "sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL
    assert lab("exec", "1", "--", "no-such-command").returncode == 127
    told = lab("exec", "1", "--", "cellnet", "status")
    assert told.returncode == 0
    assert str(BASE / "1") in told.stdout


def test_the_agent_is_killed_and_started_again() -> None:
    assert lab("up", "--config", "cell=alone").returncode == 0
    assert lab("kill", "1").returncode == 0
    time.sleep(1.0)  # longer than a supervisor that runs would take
    assert lab("exec", "1", "--", "cellnet", "ps").returncode == 1
    assert lab("start", "1").returncode == 0
    assert "alone" in lab("exec", "1", "--", "cellnet", "status").stdout


def test_commands_take_three_cells_apart_and_put_them_together() -> None:
    up = lab(*MANY, "--json")
    assert up.returncode == 0, up.stderr
    told = json.loads(up.stdout)
    assert [each["cell"] for each in told["cells"]] == [1, 2, 3]
    assert len({each["subnet"] for each in told["cells"]}) == 3
    assert lab("exec", "3", "--", "cellnet", "policy", "allow", "acme/shop/web", "acme/shop/api", "tcp/8080").returncode == 0

    assert succeed(lab("kill", "2"))
    assert "does not run" in lab("kill", "2").stderr
    assert succeed(lab("kill", "2", "--part", "envoy"), lab("start", "2"), lab("kill", "2", "--part", "up"), lab("start", "2"))
    assert "acme/shop/web" in lab("exec", "2", "--", "cellnet", "policy", "list").stdout

    reaches = ("exec", "2", "--", "timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/10.77.0.254/2379")
    assert succeed(lab("partition", "2"), lab("partition", "2"))
    assert lab(*reaches).returncode != 0
    assert succeed(lab("heal", "2"), lab("heal", "2"), lab(*reaches))
    assert succeed(lab("etcd", "stop"), lab("etcd", "stop"))
    assert lab(*reaches).returncode != 0
    assert succeed(lab("etcd", "start"), lab("etcd", "start"), lab(*reaches))

    assert "is up already" in lab(*MANY).stderr
    assert "has no cell 4; hint: it has cells 1 to 3" in lab("start", "4").stderr


def succeed(*done: "subprocess.CompletedProcess[str]") -> bool:
    return [(each.args, each.stderr) for each in done if each.returncode] == []


BEGUN: dict[str, Callable[[], bool]] = {
    "folders": lambda: (BASE / "3").exists(),
    "etcd": lambda: (BASE / "segment/etcd/process.json").exists(),
    "agents": lambda: (BASE / "3/run/cellnet/agent.sock").exists(),
}


@pytest.mark.parametrize("begun", BEGUN)
def test_the_remains_of_a_killed_up_are_removed_by_the_next_command(begun: str) -> None:
    up = started(*MANY)
    eventually(BEGUN[begun], seconds=STARTED)
    up.kill()
    up.wait()
    assert "the lab is not up" not in lab("down").stderr
    assert_nothing_is_left()
    assert "the lab is not up" in lab("down").stderr


def test_a_lab_stays_as_long_as_anything_of_it_runs() -> None:
    assert lab("up", "--cells", "1").returncode == 0
    assert lab("kill", "1", "--part", "up").returncode == 0
    assert "is up already" in lab("up").stderr  # its etcd runs
    assert lab("etcd", "stop").returncode == 0
    assert lab("up").returncode == 0
    assert [each.name for each in BASE.iterdir()] == ["1"]


def test_an_up_of_three_cells_that_is_interrupted_leaves_nothing() -> None:
    up = started(*MANY)
    eventually(lambda: any("envoy" in each[0] for each in inhabitants() if each), seconds=STARTED)
    up.send_signal(signal.SIGINT)
    assert up.wait(30) == 128 + signal.SIGINT
    assert_nothing_is_left()


def test_a_lab_of_one_cell_has_neither_an_etcd_nor_a_second_cell() -> None:
    assert lab("up").returncode == 0
    assert "the lab has no etcd; hint: cellnet lab up --cells 3" in lab("etcd", "stop").stderr
    assert "has no cell 2; hint: it has cell 1 alone" in lab("kill", "2").stderr
    assert lab("kill", "0").returncode == 2
    assert succeed(lab("partition", "1"), lab("heal", "1"), lab("start", "1"))


def test_cells_of_a_lab_cannot_share_a_name() -> None:
    done = lab(*MANY, "--config", "cell=same")
    assert done.returncode == 2
    assert "a name of its own; hint: leave 'cell' out" in done.stderr
    assert_nothing_is_left()


@pytest.mark.parametrize(
    "words", [("exec", "1", "--", "true"), ("kill", "1"), ("start", "1"), ("partition", "1"), ("etcd", "stop"), ("down",)]
)
def test_without_a_lab_the_hint_is_to_bring_one_up(words: tuple[str, ...]) -> None:
    done = lab(*words)
    assert done.returncode == 1
    assert "is not up; hint: cellnet lab up" in done.stderr


def test_a_lab_that_is_up_is_not_replaced() -> None:
    assert lab("up").returncode == 0
    again = lab("up")
    assert again.returncode == 1
    assert "is up already" in again.stderr
    assert lab("exec", "1", "--", "cellnet", "status").returncode == 0


def test_a_wrong_setting_is_shown_and_leaves_nothing() -> None:
    done = lab("up", "--config", "tls.port=70000")
    assert done.returncode == 2
    assert "port 70000 is out of range" in done.stderr
    assert_nothing_is_left()


def test_without_root_the_reason_and_the_help_are_shown() -> None:
    nobody = [*NOBODY, *CELLNET, "lab", "up"]
    done = subprocess.run(nobody, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert subprocess.run([*nobody, "--help"], capture_output=True, check=False, timeout=30).returncode == 0
