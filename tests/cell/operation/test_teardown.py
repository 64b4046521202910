"""`cellnet teardown`: the host as it was found, compared by other programs; another program's rules and links are as before."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from lab import folders
from lab.cell import Cell
from tests.testlib.cell import BASE, CellUnderTest
from tests.testlib.containers import put
from tests.testlib.crashes.fork_server import RunCommand, fork_server
from tests.testlib.host_picture import differences, of_others, picture
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually
from tests.testlib.shop import API, WEB

STEP = 5  # effects by which each run gets further than the one before, of about a hundred


@pytest.fixture
def found_host() -> Iterator[Callable[..., CellUnderTest]]:
    """A cell on which nothing has run yet, with what other programs have made; its picture is in `before`."""
    with ExitStack() as stack:

        def make(*overrides: str) -> CellUnderTest:
            lab = Cell(stack.enter_context(folders.short_lived(BASE, name=f"{Path.cwd().name}-{next(NUMBERS)}")))
            stack.callback(lambda: print(lab.log.read_text(errors="replace")[-4_000:]))
            lab.make(overrides)
            made = CellUnderTest(lab)
            stack.callback(made.close)
            of_others(made.host)
            eventually(lambda: " state UP " in made.host.run("ip", "link", "show", "eth0"))  # a moment after it is up
            return made

        yield make


NUMBERS = count()


def busy(cell: CellUnderTest, place: Netns) -> None:
    """Every kind of thing that cellnet makes: containers with limits, published ports and names outside, a held namespace."""
    cell.start()
    cell.policy_file(
        "out.yaml",
        "policies:\n"
        f"  - {{from: {WEB}, to: {API}, tcp: any}}\n"
        f"  - {{from: {WEB}, to: {{cidr: [192.0.2.0/24, 198.51.100.0/24]}}, tcp: any}}\n"
        f"  - {{from: {WEB}, to: {{host: [api.example.com]}}, tcp: any}}\n"
        f"  - {{from: {{cidr: 0.0.0.0/0}}, to: {API}, tcp: any}}\n",
        sync=False,
    )
    cell.client.put(
        "/v1/attachments/web",
        {"app": WEB, "netns": str(place.path), "limits": {"rate": "100mbit", "connections": 9, "new": 9},
         "publish": [{"port": 8080, "to": 80}], "netns_resolv_conf": True},
    )  # fmt: skip
    cell.cellnet("hold", "api", f"--app={API}")
    cell.sync()


def inside(place: Netns) -> list[str]:
    """What cellnet makes in a container's own namespace."""
    return [place.run("ip", "-o", "link"), place.run("ip", "rule"), place.run("ip", "route", "show", "table", "all"),
            place.run("nft", "list", "ruleset"), place.run("sysctl", "net.ipv4.tcp_fwmark_accept")]  # fmt: skip


def test_the_host_is_as_it_was_found_and_can_be_a_cell_again(
    found_host: Callable[..., CellUnderTest], netns: Callable[[str], Netns]
) -> None:
    cell, place = found_host("firewall.backend=nft", "tls.mtls=strict"), netns("web")
    before, within = picture(cell.host, below=cell.lab.root), inside(place)
    busy(cell, place)
    refused = cell.cellnet("teardown", code=1)
    assert "2 containers would lose the network: api, web; hint: cellnet drain, or" in refused.err
    assert cell.attachments() == ["api", "web"]
    done = json.loads(cell.cellnet("teardown", "--force", "--json").out)
    assert done["namespaces"] == ["api", "web"]
    assert "setting net/ipv4/ip_forward 0" in done["restored"]
    assert differences(before, picture(cell.host, below=cell.lab.root)) == {}
    assert inside(place) == within
    assert not Path(f"/etc/netns/{place.path.name}").exists()
    assert cell.cellnet("teardown").out.startswith("removed: nothing was left\n")
    cell.start()
    assert cell.wait_well().at("cell").text("attachments") == "0"
    put(cell, "web", app=WEB, path=place.path, ports=())  # its name and namespace are free


def test_killed_before_any_effect_it_goes_on_when_it_is_run_again_without_an_agent_and_on_legacy_tables(
    found_host: Callable[..., CellUnderTest], netns: Callable[[str], Netns]
) -> None:
    cell, place = found_host("firewall.backend=legacy"), netns("web")
    before, within = picture(cell.host, below=cell.lab.root), inside(place)
    busy(cell, place)
    cell.kill("up")
    kills, last, stopped = 0, 1, "begun"
    with fork_server(loads="agent.cli.this_cell.teardown agent.daemon.teardown agent.config.load") as server:
        while stopped:
            made = server.fork(RunCommand(cell.lab.root, cell.lab.netns, cell.lab.log, ("teardown", "--force")))
            made.go(killed_before=last, with_tools=True)
            assert made.result() in (0, None)
            stopped, kills, last = made.effects.stopped_before or "", kills + 1, last + STEP
            assert kills < 200
    assert kills > 3
    cell.cellnet("teardown")
    assert differences(before, picture(cell.host, below=cell.lab.root)) == {}
    assert inside(place) == within
