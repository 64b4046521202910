"""`cellnet status` on a terminal: one screen of the terminal's own size, in colour where there is one."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from agent.cells.rollout import MutualTlsRow
from agent.cells.tunnel_health import PeerRow
from agent.cli.this_cell.screen import columns
from agent.control.api.containers.views import AttachmentInFull, DnsView, TlsView
from agent.control.api.rotation import RotationRow
from agent.daemon.container_limits import LimitedRow
from agent.daemon.storage import StoreRow
from agent.dns.asked_names import HostsRow
from agent.dns.liveness import DnsRow
from agent.envoy.connection import EnvoyRow
from agent.envoy.listeners import TlsState
from agent.envoy.refused_calls import RefusalsRow, RefusedCall
from agent.identity.rotation import Step
from agent.insight.summaries import SummaryRow
from agent.model.status import Event, Problem
from agent.policy.in_force import PoliciesRow
from dataplane.tunnel_probe import TunnelAnswer
from tests.testlib.fakes.cell import NOW, FakeCell, peer_row

CODE = re.compile(r"\x1b\[[0-9;]*m")
LONG = "a" * 63
FOLDER = Path("/etc/cellnet/policies.d")
RULE = f"  - from: [{'acme/shop/web, ' * 7}acme/shop]"
BAD_FILE = Problem(
    "policies",
    f"{FOLDER}/{LONG}/{LONG}.yaml:2:117: 'acme/shop' does not name apps\n{RULE}\n{' ' * RULE.index('acme/shop]')}^\n"
    "hint: write org/space/app, org/space/* or org/*/*",
)


def on_a_terminal(root: Path, width: int = 80, height: int = 24, *, arguments: tuple[str, ...] = (), **environment: str) -> str:
    """What a terminal of that size is sent by `cellnet status`."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    argv = [sys.executable, "-m", "agent", "--root", str(root), "status", *arguments]
    process = subprocess.Popen(
        argv, stdin=other, stdout=other, stderr=other, env={**kept, "TERM": "xterm-256color", **environment}
    )
    os.close(other)
    try:
        return _read(main).replace("\r\n", "\n")
    finally:
        os.close(main)
        process.wait(timeout=30)


def _read(main: int) -> str:
    """All of it: the other end's last closing reads as an error."""
    parts: list[bytes] = []
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not select.select([main], [], [], 1)[0]:
            continue
        try:
            parts.append(os.read(main, 65536))
        except OSError:
            break
    return b"".join(parts).decode()


def lines(shown: str) -> list[str]:
    return CODE.sub("", shown).removesuffix("\n").split("\n")


def fits(shown: str, width: int = 80, height: int = 24) -> bool:
    """With a line left for the prompt."""
    found = lines(shown)
    return max(map(columns, found)) <= width and len(found) < height


def attached(number: int) -> AttachmentInFull:
    name, address = f"{number:03d}-{LONG[:59]}", IPv4Address("10.255.1.2") + number
    tls = TlsView(TlsState.READY, NOW)
    nowhere, dns = Path("/nowhere"), DnsView((), (), (), Path("/nowhere"))
    return AttachmentInFull(
        name, f"{LONG}/{LONG}/{LONG}", 0, address, (), (), "eth0", tls, True, {}, (), {}, (), nowhere, dns, nowhere
    )


def test_a_healthy_cell_is_one_screen_with_what_an_operator_asks_for(agent: Path, cell: FakeCell) -> None:
    cell.views = {view.name: view for view in map(attached, range(250))}
    shown = on_a_terminal(agent)
    assert fits(shown)
    assert lines(shown) == [
        "all is well",
        "  cell         one, 10.255.1.0/24 of 10.255.0.0/16, MTU 1450",
        "  agent        0.1.0, pid 7, since 2030-01-02 03:04:05",
        "  containers   250",
        "  policies     0 from 1 file, 0 from the store",
        "  firewall     nft, 74 rules",
        "  envoy        1.40.0, connected, 250 listeners",
        "  dns          answers at 169.254.0.2, names of 250 instances",
        "  ca           cell until 2030-01-02, root until 2030-01-02",
        "  expiry       first certificate at 2030-01-02 03:04:05",
        "  converged    2030-01-02 03:04:05, 4 changes in 12.346 ms",
        "  repairs      0",
        "  store        sqlite at /var/lib/cellnet/cellnet.db",
        "  peers        none",
    ]


@pytest.mark.parametrize(
    ("peers", "text"),
    [
        ((peer_row("two"), peer_row("three", tunnel=None)), "2, all alive"),
        ((replace(peer_row("two"), drained=True), peer_row("three")), "2, all alive, drained: two"),
        ((peer_row("two", alive=False, tunnel=TunnelAnswer.NONE), peer_row("three")), "2, not alive: two"),
        (
            (peer_row("two", tunnel=TunnelAnswer.NONE), peer_row("three", tunnel=TunnelAnswer.ONLY_SMALL), peer_row("four")),
            "\x1b[31m3, tunnel does not answer as it should: two, three\x1b[0m",
        ),
    ],
)
def test_peers_that_need_a_look_are_named(agent: Path, cell: FakeCell, peers: tuple[PeerRow, ...], text: str) -> None:
    cell.rows = {"peers": peers}
    assert f"  peers        {text}\n" in on_a_terminal(agent)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (HostsRow(wanted=True, connected=True, known=0), ""),
        (HostsRow(wanted=True, connected=True, known=1), "1 name of the outside known"),
        (HostsRow(wanted=False, connected=False, known=2), "2 names of the outside known"),
        (
            HostsRow(wanted=True, connected=False, known=3),
            "\x1b[31m3 names of the outside known, none asked for at present\x1b[0m",
        ),
    ],
)
def test_names_of_the_outside_are_counted_once_there_are_any(agent: Path, cell: FakeCell, row: HostsRow, text: str) -> None:
    cell.rows = {"hosts": row}
    shown = on_a_terminal(agent)
    assert (f"  hosts        {text}\n" in shown) if text else ("  hosts" not in shown)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (MutualTlsRow("accept", in_force=False), "\x1b[31maccept, not in force yet\x1b[0m"),
        (
            MutualTlsRow("accept", in_force=True, plain_cells=("two", "three"), plain_flows=1),
            "accept; 1 open connection in plain; cells without tunnels: two, three",
        ),
        (MutualTlsRow("strict", in_force=True), "strict; UDP, published ports and the host's own calls stay plain"),
        (MutualTlsRow("none", in_force=False), "none; tunnels are still served"),
        (
            MutualTlsRow("none", in_force=False, tunnels=2, calls=1),
            "none; still served, until unused for a while: 2 tunnels to here, 1 call from here",
        ),
    ],
)
def test_the_mode_of_mutual_tls_says_what_is_plain(agent: Path, cell: FakeCell, row: MutualTlsRow, text: str) -> None:
    cell.rows = {"mutual_tls": row}
    assert f"  mutual TLS   {text}\n" in on_a_terminal(agent, 132)


def test_a_rotation_of_the_root_has_a_row_while_it_is_under_way(agent: Path, cell: FakeCell) -> None:
    cell.rows["rotation"] = RotationRow(Step.SIGN, ("cell-2", "cell-3"))
    assert "  rotation     of the root, at step 'sign', awaited: cell-2, cell-3" in lines(on_a_terminal(agent))
    cell.rows["rotation"] = RotationRow(Step.END, ())
    assert "  rotation     of the root, at step 'end'" in lines(on_a_terminal(agent))


def test_addresses_that_were_given_early_have_a_row_of_their_own(agent: Path, cell: FakeCell) -> None:
    what = "'y0' has 10.255.1.2, which a certificate of acme/shop/x names until 2030-01-03 03:04:05 UTC"
    cell.rows = {"early_addresses": 2, "last_early_addresses": (Event(NOW, what),)}
    assert f"  addresses    2 given early; the last at 2030-01-02 03:04:05: {what}\n" in on_a_terminal(agent, 160)


def test_refused_calls_are_counted_and_the_last_is_shown(agent: Path, cell: FakeCell) -> None:
    call = RefusedCall(
        NOW, "rights", "spiffe://cell.internal/org/acme/space/shop/app/web", True, IPv4Address("10.255.1.2"),
        "acme/shop/api", IPv4Address("10.255.1.3"), 9000, "", 0,
    )  # fmt: skip
    cell.rows = {"refusals": RefusalsRow(2, 0, {"rights": 2}, (call,))}
    text = "2 calls since the agent's start; the last at 2030-01-02 03:04:05: 10.255.1.2 to acme/shop/api port 9000: rights"
    assert f"  refused      {text}\n" in on_a_terminal(agent, 160)


def test_what_was_refused_is_counted_on_its_row(agent: Path, cell: FakeCell) -> None:
    cell.rows = {
        "refused_attaches": 3,
        "last_refused_attaches": (Event(NOW, "web: port 61443 is in use"),),
        "repairs": 1,
        "last_repairs": (Event(NOW, "chains 2, routes 1"),),
        "cuts": 2,
        "last_cuts": (Event(NOW, "3 streams of acme/shop/web (10.255.1.2) to acme/shop/api (10.255.1.3) tcp/8080"),),
        "envoy": EnvoyRow(True, "1.40.0", 7, ("listener tls-0aff0102: no", "secret leaf-0aff0102: no")),
        "policies": PoliciesRow(3, 1, 2, ("/a.yaml",)),
    }
    shown = on_a_terminal(agent)
    assert "  containers   0, 3 attaches refused since the agent's start; the last" in shown
    assert "  repairs      1; the last at 2030-01-02 03:04:05: chains 2, routes 1\n" in shown
    assert "  cuts         2; the last at 2030-01-02 03:04:05: 3 streams of acme/shop/web" in shown
    assert "\x1b[31m1.40.0, connected, 7 listeners, 2 resources refused\x1b[0m\n" in shown
    assert "\x1b[31m3 from 2 files, 1 from the store, 1 bad file\x1b[0m\n" in shown


def test_a_dns_that_does_not_answer_and_name_servers_that_are_not_asked_are_on_its_row(agent: Path, cell: FakeCell) -> None:
    address = IPv4Address("169.254.0.2")
    cell.rows = {"dns": DnsRow(address, False, 3, (), ())}
    assert "\x1b[31mdoes not answer at 169.254.0.2\x1b[0m\n" in on_a_terminal(agent)
    cell.rows = {"dns": DnsRow(address, True, 1, ("192.0.2.53#53",), ("10.255.0.53 is inside the overlay 10.255.0.0/16",))}
    text = "answers at 169.254.0.2, names of 1 instance, asks 192.0.2.53#53; not asked: 10.255.0.53 is inside the overlay"
    assert f"  dns          {text} 10.255.0.0/16\n" in on_a_terminal(agent, 160)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (132, 50), (200, 10), (40, 24), (20, 5), (3, 2)])
def test_no_terminal_is_too_small_or_too_large(agent: Path, cell: FakeCell, width: int, height: int) -> None:
    cell.rows = {"store": StoreRow("sqlite", f"/srv/{LONG}/{LONG}/cellnet.db")}
    cell.problems += [BAD_FILE, Problem("envoy", "Envoy refused listener tls-0aff0102: " + "words " * 300, "see its log")]
    found = lines(on_a_terminal(agent, width, height))
    assert max(map(columns, found)) <= max(width, 32)
    assert found[0].startswith("something is wrong")


def test_many_problems_leave_room_for_the_facts_and_say_how_many_more_there_are(agent: Path, cell: FakeCell) -> None:
    cell.problems += [Problem("kernel", f"{LONG}-{number}: cannot set up eth0", "is it there?") for number in range(250)]
    shown = on_a_terminal(agent)
    assert fits(shown)
    found = lines(shown)
    assert found[0] == "something is wrong: 250 problems"
    assert found[15:17] == [f"kernel: {LONG}-0:", "  cannot set up eth0"]
    told = sum("cannot set up" in line for line in found)
    assert found[-1] == f"and {250 - told} more problems: cellnet status --all"
    assert told >= 1
    found = lines(on_a_terminal(agent, arguments=("--all",)))
    assert sum("cannot set up" in line for line in found) == 250


def test_many_problems_of_one_kind_do_not_hide_another(agent: Path, cell: FakeCell) -> None:
    cell.problems += [Problem("store", f"record {number} in etcd makes no sense", "look") for number in range(250)]
    cell.problems.append(BAD_FILE)
    found = lines(on_a_terminal(agent, 132, 40))
    assert any("does not name apps" in line for line in found)
    assert sum("makes no sense" in line for line in found) >= 3


def test_a_pipe_gets_everything_as_it_is_without_a_code(agent: Path, cell: FakeCell) -> None:
    cell.problems += [replace(BAD_FILE, what=BAD_FILE.what.replace(":2:", f":{line}:")) for line in range(40)]
    argv = [sys.executable, "-m", "agent", "--root", str(agent), "status"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("does not name apps\n") == 40
    assert "\x1b" not in done.stdout


def test_the_caret_stays_below_its_place_where_the_line_is_cut(agent: Path, cell: FakeCell) -> None:
    cell.problems.append(BAD_FILE)
    found = lines(on_a_terminal(agent))
    number = next(number for number, line in enumerate(found) if line.strip() == "^")
    assert found[number - 1][found[number].index("^") :] == "acme/shop]"
    assert found[-1] == "  hint: write org/space/app, org/space/* or org/*/*"


def test_letters_that_are_two_columns_wide_are_counted_so(agent: Path, cell: FakeCell) -> None:
    cell.problems.append(Problem("policies", f"{FOLDER}/{'政策' * 60}.yaml:1:9: bad\n政策: {'政' * 90}\n     ^"))
    shown = on_a_terminal(agent)
    assert fits(shown)
    assert sum(line.count("政策") for line in lines(shown)) >= 58


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_have_it_and_users_who_want_it(
    agent: Path, cell: FakeCell, environment: dict[str, Any], coloured: bool
) -> None:
    assert ("\x1b[32mall is well\x1b[0m" in on_a_terminal(agent, **environment)) is coloured
    cell.fails = RuntimeError("for an error on the other stream")
    failed = on_a_terminal(agent, **environment)
    assert "error:" in failed
    assert ("\x1b[31m" in failed) is coloured


def test_containers_that_come_to_their_limits_are_named_on_a_row_of_their_own(agent: Path, cell: FakeCell) -> None:
    cell.rows = {"limited": (LimitedRow("job", 0, 12, 0, 0), LimitedRow("web", 3, 0, 4211, 7))}
    text = "refused or dropped: job (12 open too many), web (3 new too many, 4211 packets in, 7 packets out)"
    assert f"  limited      {text}\n" in on_a_terminal(agent, 160)


def test_what_keeps_a_cells_summary_from_the_others_is_on_a_row_of_its_own(agent: Path, cell: FakeCell) -> None:
    assert "  summary " not in on_a_terminal(agent, 160)
    cell.rows = {"summary": SummaryRow(None, "etcd does not let 'cell-1' do this")}
    text = "not published for other cells: etcd does not let 'cell-1' do this"
    assert f"  summary      {text}\n" in on_a_terminal(agent, 160)
