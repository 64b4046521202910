"""vagrant/ makes cells of three machines, and docs/install.md says the same: both are run here, on machines with systemd."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.testlib.documents import ROOT
from tests.testlib.machines.machine import Machine, Segment, boot_all
from tests.testlib.machines.packages import package_of
from tests.testlib.machines.restarted import restarted
from tests.testlib.patience import eventually

DOCUMENT = "docs/install.md"
BLOCK = re.compile(
    r"^<!-- tests/machines/test_vagrant\.py (?P<how>compares|runs) this block .*?-->\n```sh\n(?P<text>.*?)^```$", re.M | re.S
)
CELLS = ("cell-1", "cell-2", "cell-3")
RELEASE = "bookworm"  # what the Vagrantfile's machines are
SCRIPTS = "/cellnet/vagrant"  # where they are in Vagrant's machines
SMOKE_SECONDS = 400
pytestmark = pytest.mark.timeout(SMOKE_SECONDS + 100)


def blocks(how: str) -> list[str]:
    """The blocks of the document that are run, or compared with vagrant/cells.sh, which is run."""
    return [each["text"] for each in BLOCK.finditer((ROOT / DOCUMENT).read_text()) if each["how"] == how]


@pytest.fixture(scope="module")
def cells(segment: Segment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Machine]]:
    """Three machines with the package, of which provision.sh has made cells; one that goes down by itself boots again."""
    package = package_of(RELEASE)
    with ExitStack() as stack:
        made = boot_all(segment, len(CELLS), folder=tmp_path_factory.mktemp("machines"), release=RELEASE, checkout=False)
        for each in made:
            stack.callback(each.close)
        shutil.copy(package, made[0].path("/root"))
        provision(made, package=package, key=tmp_path_factory.mktemp("key") / "key")
        for each in made[1:]:
            stack.enter_context(restarted(each))
        yield made


def provision(machines: Sequence[Machine], *, package: Path, key: Path) -> None:
    """What the Vagrantfile has done on its machines."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()

    def software(machine: Machine) -> None:
        shutil.copytree(ROOT / "vagrant", machine.path(SCRIPTS))
        shutil.copy(package, machine.path("/tmp/cellnet.deb"))
        machine.path("/etc/dpkg/dpkg.cfg.d/hasty").write_text("force-unsafe-io\n")  # no disk has to be waited for
        machine.run("systemctl", "enable", "--now", "ssh")
        step(
            "software",
            machine,
            servers=listed(machines),
            public=public,
            private=key.read_text() if machine is machines[0] else "",
        )

    with ThreadPoolExecutor() as pool:
        list(pool.map(software, machines))
    step("cells", machines[0], servers=listed(machines))


def listed(machines: Sequence[Machine]) -> str:
    """The machines as SERVERS has them."""
    return "\n".join(f"{name} {each.address}" for name, each in zip(CELLS, machines, strict=True))


def step(name: str, on: Machine, *, servers: str, public: str = "", private: str = "") -> str:
    """Run a step of provision.sh on a machine; what it prints."""
    settings = (f"SERVERS={servers}", f"PUBLIC_KEY={public.strip()}", f"PRIVATE_KEY={private.strip()}")
    return on.run("env", *settings, f"{SCRIPTS}/provision.sh", name, timeout=200).stdout


def test_what_the_smoke_test_promises_holds(cells: Sequence[Machine]) -> None:
    said = cells[0].run(f"{SCRIPTS}/smoke.sh", timeout=SMOKE_SECONDS).stdout
    assert said.splitlines()[-1] == "smoke: all that was tried holds"
    assert said.count("smoke: ") == 12, said


def test_the_smoke_test_ends_at_what_does_not_hold_and_says_so(cells: Sequence[Machine]) -> None:
    cells[1].path("/etc/cellnet/policies.d").mkdir(exist_ok=True)
    policy = cells[1].path("/etc/cellnet/policies.d/open.yaml")
    policy.write_text("policies: [{from: acme/shop/web, to: acme/shop/api, tcp: any}]\n")
    done = cells[0].run(f"{SCRIPTS}/smoke.sh", "deny", check=False, timeout=SMOKE_SECONDS)
    policy.unlink()
    assert done.returncode == 1
    assert "let through, though no policy allows it" in done.stdout


def test_the_last_cell_has_its_rules_in_the_legacy_firewall(cells: Sequence[Machine]) -> None:
    rules = {tool: ["CELLNET" in each.run(f"iptables-{tool}-save").stdout for each in cells] for tool in ("nft", "legacy")}
    assert rules == {"nft": [True, True, False], "legacy": [False, False, True]}


def test_cells_that_are_set_up_stay_as_they_are(cells: Sequence[Machine]) -> None:
    before = cells[0].shell("cellnet cell list; cellnet ca show")
    assert "set up already" in step("cells", cells[0], servers=listed(cells))
    assert cells[0].shell("cellnet cell list; cellnet ca show") == before


def test_a_step_that_fails_is_named(cells: Sequence[Machine]) -> None:
    done = cells[2].run("env", "SERVERS=", f"{SCRIPTS}/provision.sh", "software", check=False)
    assert done.returncode != 0
    assert 'failed at "names and keys of the cells"; hint: ' in done.stdout
    assert cells[2].run(f"{SCRIPTS}/provision.sh", "other", check=False).returncode == 2


def test_the_document_says_what_the_cells_were_made_by_and_nothing_else() -> None:
    script = (ROOT / "vagrant/cells.sh").read_text()
    compared = blocks("compares")
    places = [script.find(each) for each in compared]
    assert -1 not in places, compared[places.index(-1)]
    assert places == sorted(places)
    beside = script.partition("rm -rf")[2]
    for each in compared:
        beside = beside.replace(each, "")
    own = [line for line in beside.splitlines() if line and not line.startswith("step ")]
    assert own == [
        " /root/cellnet",
        'echo "$SERVERS" >servers',
        "echo 'firewall: {backend: legacy}' >>\"$(sed -n '$s/ .*//p' servers)/etc/cellnet/agent.yaml\"",
        "touch complete",
    ]


def test_the_package_of_the_document_is_installed_on_all_servers_from_the_first(cells: Sequence[Machine]) -> None:
    servers, packages = blocks("runs")[:2]
    folder = cells[0].shell("mktemp -d").strip()
    assert cells[0].shell(f"cd {folder}; {servers} cut -d ' ' -f 1 servers").split() == [f"cell-{n}" for n in range(1, 6)]
    for each in cells:
        each.path("/etc/apt/apt.conf.d/99once").write_text('Acquire::Retries "0";\n')  # there is no way to a mirror
        each.shell("rm -f /tmp/cellnet*.deb")
    said = cells[0].shell(f"cd /root/cellnet; {packages}", timeout=120)
    assert said.count("cellnet is already the newest version") == len(cells), said


def test_the_first_app_and_the_first_policy_of_the_document(cells: Sequence[Machine]) -> None:
    start, refused, allowed, again = (f"cd /root/cellnet; {each}" for each in blocks("runs")[2:])
    cells[0].shell(start)
    eventually(lambda: len(re.findall("acme/shop/.* yes", cells[0].shell("cellnet ps --all"))) == 2)
    assert cells[0].shell(refused).splitlines()[-1] == "refused"
    assert cells[0].shell(allowed).splitlines()[-1] == "200"
    assert cells[0].shell(again).splitlines()[-1] == "refused"
    cells[0].shell("systemctl stop web")
    cells[1].shell("systemctl stop api")
