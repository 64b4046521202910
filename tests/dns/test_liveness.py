"""What becomes of names when dnsmasq stands still, goes by another folder, or cannot be started: `status` says so."""

import os
import re
import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.dns.liveness import MISSED
from agent.dns.process import await_address
from agent.errors import HostRefused
from host.namespace import run_in
from lab.cell import Part
from lab.children import CELLNET
from tests.testlib.cell import CellUnderTest, running_cell
from tests.testlib.dns.client import RESOLVER, Code, ask, ask_once
from tests.testlib.failures import suspended
from tests.testlib.node import Node
from tests.testlib.patience import eventually
from tests.testlib.shop import follows_policy, three_apps
from tests.testlib.status import is_well, problems, reports
from tests.testlib.unsupervised_cell import UnsupervisedCell

CHANGES_KEPT = 16384  # fs.inotify.max_queued_events
NOT_RUNNING = "dnsmasq does not run: containers have no DNS"


def answers(node: Node) -> bool:
    """Whether a container is answered."""
    try:
        return ask_once(node, "nothing.cell.internal").code is Code.NXDOMAIN
    except OSError:
        return False


@pytest.fixture(scope="module")
def alone() -> Iterator[CellUnderTest]:
    """A cell whose dnsmasq nothing starts again but a test."""
    with running_cell(kind=UnsupervisedCell) as made:
        yield made


def names_of(cell: CellUnderTest) -> Path:
    """The folder that dnsmasq reads."""
    return cell.lab.root / "run/cellnet/dns/names"


def test_the_status_has_a_row_for_it_and_waits_for_it(cell: CellUnderTest) -> None:
    row = cell.status().at("dns")
    assert (row.text("address"), row.flag("answers"), row.texts("upstreams")) == (str(RESOLVER), True, ())
    cell.cellnet("status", "--wait", "20")
    socket = str(cell.lab.root / "run/cellnet/agent.sock")
    assert "cellnet_dns_answers 1.0" in cell.host.run("curl", "-sS", "--unix-socket", socket, "http://cell/v1/metrics")


def silent_seconds(cell: CellUnderTest) -> int:
    """For how long dnsmasq has not answered, by the status."""
    found = re.search(r"dnsmasq has not answered for (\d+) s", problems(cell).get("dns", ""))
    return int(found[1]) if found else 0


def test_one_that_hangs_is_reported_and_then_knows_what_it_has_missed(cell: CellUnderTest) -> None:
    """The kernel keeps so many changes of a folder for it, and no more: here the last ones are lost."""
    web, api, other = three_apps(cell)
    before = cell.pid("dns")
    with suspended(before):
        eventually(lambda: reports(cell, "dns", "has not answered for"))
        assert reports(cell, "dns", f"ps -o pid,stat -p {before}")
        assert cell.cellnet("status", code=1).out.count("does not answer at 169.254.0.2") == 1
        assert follows_policy(web, api, other)
        for _ in range(CHANGES_KEPT // 2):
            (names_of(cell) / ".change").write_text("")
            (names_of(cell) / ".change").unlink(missing_ok=True)  # or a look has removed it
        new = cell.run_app("acme/shop/new")
        eventually(lambda: silent_seconds(cell) > MISSED)
    cell.wait_well()
    eventually(lambda: ask(web, "new.shop.acme.cell.internal").addresses == [str(new.address)])
    assert cell.pid("dns") == before


def test_one_whose_folder_was_replaced_is_started_again(cell: CellUnderTest) -> None:
    web = cell.run_app("acme/shop/web")
    before = cell.pid("dns")
    shutil.rmtree(names_of(cell))
    eventually(lambda: (found := cell.lab.part(Part.DNS)) is not None and found.pid != before)
    cell.wait_well()
    assert answers(web)
    assert names_of(cell).is_dir()


def test_one_that_does_not_run_is_reported_until_it_does(alone: CellUnderTest) -> None:
    cell = alone
    cell.kill("dns")
    eventually(lambda: reports(cell, "dns", NOT_RUNNING))
    assert reports(cell, "dns", "starts it again by itself: see its log (`journalctl -u cellnet-dns`)")
    cell.start()
    assert is_well(cell)


def test_another_resolver_at_its_address_is_named(alone: CellUnderTest) -> None:
    cell = alone
    cell.kill("dns")
    with cell.host.listen(53, address=str(RESOLVER)):
        said = f"port 53 of {RESOLVER} is taken by {process_name()}"
        eventually(lambda: reports(cell, "dns", said))
        assert said in cell.cellnet("dns", code=1).err
    cell.start()


def test_one_for_all_addresses_is_in_the_way_too(alone: CellUnderTest) -> None:
    cell = alone
    cell.kill("dns")
    with cell.host.datagrams(53):
        assert f"port 53 of {RESOLVER} is taken by {process_name()}" in cell.cellnet("dns", code=1).err
    cell.start()


def process_name() -> str:
    """The test's own."""
    return f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})"


def test_a_second_one_is_refused(cell: CellUnderTest) -> None:
    said = cell.cellnet("dns", code=1).err
    assert said == (
        f"error: this cell's dnsmasq runs already, as process {cell.pid('dns')}; hint: one is enough: leave it, or end it\n"
    )
    assert answers(cell.host)


def test_a_user_that_is_not_there_is_named(cell: CellUnderTest) -> None:
    path = cell.lab.root / "other.yaml"
    path.write_text((cell.lab.policies.parent / "agent.yaml").read_text() + "\ndns: {user: nobody-there}\n")
    said = cell.lab.run(*CELLNET, "--root", str(cell.lab.root), "--config", f"{path}", "dns").err
    assert said.startswith("error: there is no user 'nobody-there' for dnsmasq; hint: make setup, or useradd")


def test_a_host_without_the_program_is_told_what_to_install(cell: CellUnderTest) -> None:
    hidden = 'mount --bind /dev/null /usr/sbin/dnsmasq && exec "$@"'
    said = cell.lab.run("unshare", "--mount", "sh", "-c", hidden, "sh", *CELLNET, "--root", str(cell.lab.root), "dns").err
    assert said == "error: dnsmasq is not installed; hint: make setup, or apt-get install dnsmasq-base\n"


def test_an_address_that_the_host_does_not_have_is_waited_for_and_named(cell: CellUnderTest) -> None:
    run_in(cell.host.pin, lambda: await_address(RESOLVER, seconds=0.0))
    with pytest.raises(HostRefused, match=r"this host does not have the resolver's address 169\.254\.0\.3"):
        run_in(cell.host.pin, lambda: await_address(IPv4Address("169.254.0.3"), seconds=0.2))


def test_a_folder_that_its_user_cannot_enter_is_named(cell: CellUnderTest) -> None:
    parent = cell.lab.root
    before = parent.stat().st_mode
    try:
        parent.chmod(0o700)
        cell.kill("dns", again=True)
        what = f"dnsmasq's user 'cellnet-dns' cannot enter {parent}"
        eventually(lambda: reports(cell, "dns", what))
        eventually(lambda: f"error: {what}; hint: chmod o+x {parent}" in cell.log)
    finally:
        parent.chmod(before)
    cell.wait_well()


def test_the_address_on_another_link_is_refused_at_the_start(cell: CellUnderTest) -> None:
    cell.stop()
    cell.host.run("ip", "addr", "add", f"{RESOLVER}/16", "dev", "eth0")
    said = cell.cellnet("agent", code=1).err
    assert f"the resolver's address {RESOLVER} is another program's on this host: address {RESOLVER}/16 of eth0" in said
    cell.host.run("ip", "addr", "del", f"{RESOLVER}/16", "dev", "eth0")
    cell.start()
