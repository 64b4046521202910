"""The cell's dnsmasq as a process: what it may do, and what becomes of it and of others when one is killed."""

import contextlib
from pathlib import Path

from lab.cell import Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.dns.client import Code, ask, ask_once, ask_over_tcp
from tests.testlib.node import Node
from tests.testlib.patience import eventually

NAME = "web.shop.acme.cell.internal"


def answers(node: Node) -> bool:
    """Whether a container is answered that a name of the cell's is not there."""
    try:
        return ask_once(node, "nothing.cell.internal").code is Code.NXDOMAIN
    except OSError:
        return False


def test_a_container_of_a_cell_has_dns(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    eventually(lambda: answers(web))
    assert ask(web, "example.com").code is Code.NXDOMAIN
    assert ask_over_tcp(web, "nothing.apps.internal").code is Code.NXDOMAIN
    assert ask(cell.host, "nothing.cell.internal").code is Code.NXDOMAIN


def test_it_has_a_user_of_its_own_and_one_capability(cell: CellUnderTest) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{cell.pid('dns')}/status").read_text().splitlines() if ":\t" in line
    )
    assert {status[each] for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {f"{1 << 10:016x}"}
    assert status["NoNewPrivs"] == "1"
    assert status["Groups"].strip() == ""
    assert "0" not in status["Uid"].split()


def test_answers_go_on_without_an_agent(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    eventually(lambda: answers(web))
    before = cell.pid("dns")
    cell.kill("agent")
    for _ in range(20):
        assert answers(web)
    cell.start()
    assert (cell.pid("dns"), answers(web)) == (before, True)


def test_one_that_is_killed_comes_again_and_has_all_names_at_once(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    eventually(lambda: ask(web, NAME).addresses == [str(web.address)])
    before = cell.pid("dns")
    cell.kill("dns", again=True)
    eventually(lambda: answers(web))
    assert ask(web, NAME).addresses == [str(web.address)]
    assert cell.pid("dns") != before


def test_what_another_program_does_in_the_folder_of_names_is_put_right(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    eventually(lambda: ask(web, NAME).addresses == [str(web.address)])
    folder = cell.lab.root / "run/cellnet/dns/names"
    repairs = int(cell.status().text("repairs"))
    next(each for each in folder.iterdir() if NAME in each.read_text()).unlink()
    (folder / "hosts").write_text(f"10.255.1.99 other.apps.internal {NAME}\n")
    eventually(lambda: ask(web, "other.apps.internal").addresses == ["10.255.1.99"])
    eventually(lambda: ask(web, "other.apps.internal").code is Code.NXDOMAIN)
    eventually(lambda: ask(web, NAME).addresses == [str(web.address)])
    assert not (folder / "hosts").exists()
    eventually(lambda: int(cell.status().text("repairs")) > repairs)


def test_one_that_is_killed_comes_again_though_it_leaves_connections_behind(cell: CellUnderTest) -> None:
    """Its processes for TCP outlive it, and have its sockets, too."""
    web = cell.run_app("acme/shop/web")
    eventually(lambda: answers(web))
    idle = web.dial("169.254.0.2", 53)
    before = cell.lab.kill(Part.DNS, again=True)
    eventually(lambda: answers(web))
    assert ask_over_tcp(web, "nothing.apps.internal").code is Code.NXDOMAIN
    assert cell.pid("dns") != before.pid
    idle.settimeout(10)
    with contextlib.suppress(ConnectionResetError):  # an end with what was not read yet
        assert idle.recv(1) == b""


def test_connections_of_a_container_that_has_gone_count_for_no_other(cell: CellUnderTest) -> None:
    """The next one with its address may have as many as any."""
    web = cell.run_app("acme/shop/web")
    eventually(lambda: answers(web))
    held = [web.dial("169.254.0.2", 53) for _ in range(4)]
    words = ("conntrack", "-L", "-p", "tcp", "-s", str(web.address), "--dport", "53")
    assert cell.host.run(*words).count("dport=53 ") == len(held)
    web.kill()
    eventually(lambda: "dport=53 " not in cell.host.run(*words))


def test_an_address_that_another_program_has_taken_away_is_given_back_and_served_as_before(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    eventually(lambda: answers(web))
    before, repairs = cell.pid("dns"), int(cell.status().text("repairs"))
    cell.host.run("ip", "address", "del", "169.254.0.2/32", "dev", "lo")
    eventually(lambda: int(cell.status().text("repairs")) > repairs)
    eventually(lambda: answers(web))
    assert ask_over_tcp(web, "nothing.apps.internal").code is Code.NXDOMAIN
    assert cell.pid("dns") == before
