"""The package on machines of both releases: installed, started, upgraded under load, downgraded, removed, purged, in order.

Each step is a fixture that the next one needs, and leaves what it came to for the tests to look at.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testlib.documents import ROOT, blocks, commands
from tests.testlib.machines.cell import IN_CONTAINERS, UNITS, Exchanges, MachineCell, RestlessCaller
from tests.testlib.machines.machine import Machine, Segment
from tests.testlib.machines.packages import APT, NEWER, PLACE, files, network, newer_package, package_of, put

pytestmark = pytest.mark.timeout(900)  # where a package is built for the first time
RELEASES = ("bookworm", "trixie")
CONFIG = "# the operator's own\ntls: {mtls: none}\n"
INSTALL, STARTED, UPGRADE, REMOVE, PURGE = blocks("docs/upgrade.md", test="tests/machines/test_package.py")


@dataclass(frozen=True, slots=True)
class Installed:
    """A machine of a release, what it was before the package came, and what the installation printed."""

    machine: Machine
    package: Path
    newer: Path
    files: set[str]
    network: str
    printed: str


@dataclass(frozen=True, slots=True)
class Running:
    """Apps on it that talk without a rest."""

    machine: Machine
    cell: MachineCell
    caller: RestlessCaller


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another version came under them."""

    version: str
    exchanges: Exchanges
    agents: tuple[int, int]
    config: str


def as_shown(machine: Machine, block: str) -> str:
    """The commands of a document, run in the machine; what they print."""
    return "".join(machine.shell(f"cd {PLACE}; DEBIAN_FRONTEND=noninteractive {each}", timeout=120) for each in commands(block))


def other_version(running: Running, package: Path, block: str) -> Replaced:
    """Put another version in the place of the one that runs."""
    before = running.cell.pid(UNITS[0])
    with put(running.machine, package):
        as_shown(running.machine, block)
    exchanges = running.caller.progress()
    running.cell.wait_well()
    version = running.machine.shell("cellnet --version").split()[1]
    config = running.machine.path("/etc/cellnet/agent.yaml").read_text()
    return Replaced(version, exchanges, (before, running.cell.pid(UNITS[0])), config)


@pytest.fixture(scope="module", params=RELEASES)
def installed(
    request: pytest.FixtureRequest, segment: Segment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    release, folder = str(request.param), tmp_path_factory.mktemp("package")
    package = package_of(release)
    with ExitStack() as undo:
        machine = Machine(segment, 1, folder=folder / "machine", release=release, checkout=False)
        undo.callback(machine.close)
        machine.ready().path(str(IN_CONTAINERS)).mkdir(parents=True)
        for script in ("echo_app.py", "restless_caller.py"):
            shutil.copy(IN_CONTAINERS / script, machine.path(str(IN_CONTAINERS)))
        machine.path("/etc/apt/apt.conf.d/90test").write_text(APT)
        before = files(machine), network(machine)
        with put(machine, package):
            printed = as_shown(machine, INSTALL)
        yield Installed(machine, package, newer_package(package, folder), *before, printed)


@pytest.fixture(scope="module")
def running(installed: Installed) -> Running:
    cell = MachineCell(installed.machine, config=CONFIG)
    return Running(installed.machine, cell, cell.caller())


@pytest.fixture(scope="module")
def upgraded(installed: Installed, running: Running) -> Replaced:
    return other_version(running, installed.newer, UPGRADE)


@pytest.fixture(scope="module")
def downgraded(installed: Installed, running: Running, upgraded: Replaced) -> Replaced:
    assert upgraded
    installed.machine.run("systemctl", "disable", "--quiet", "cellnet.target")
    return other_version(running, installed.package, UPGRADE)


@pytest.fixture(scope="module")
def removed(installed: Installed, downgraded: Replaced) -> str:
    assert downgraded
    return as_shown(installed.machine, REMOVE)


@pytest.fixture(scope="module")
def purged(installed: Installed, removed: str) -> str:
    return removed + as_shown(installed.machine, PURGE)


def test_the_command_has_what_it_imports_and_needs_no_compiler(installed: Installed) -> None:
    assert installed.machine.shell("cellnet --version").startswith("cellnet 0.")
    compiled = "import _cffi_backend, cryptography.x509, google._upb._message, grpc, iptc, pydantic, yaml, aiohttp"
    installed.machine.run("/usr/lib/cellnet/bin/python", "-Ic", compiled)
    assert installed.machine.shell("command -v gcc || echo none") == "none\n"


def test_the_package_has_the_code_of_this_checkout(installed: Installed) -> None:
    (place,) = installed.machine.path("/usr/lib/cellnet/lib").glob("python3.*/site-packages")
    ours = [each for name in ("agent", "ca", "dataplane", "host", "lab") for each in (ROOT / name).rglob("*.py")]
    assert len(ours) > 300
    assert [each for each in ours if (place / each.relative_to(ROOT)).read_bytes() != each.read_bytes()] == []


def test_the_package_depends_on_those_that_have_its_libraries_and_on_this_python_alone(installed: Installed) -> None:
    machine = installed.machine
    named = machine.shell("dpkg-query -W -f '${Depends}' cellnet").split(", ")
    found = machine.shell(
        "find /usr/lib/cellnet -name '*.so*' -exec ldd {} + | sed -n 's,.*=> \\(/[^ ]*\\) .*,\\1,p' | sort -u |"
        ' while read -r each; do dpkg-query -S "*/${each##*/}"; done | cut -d : -f 1 | sort -u'
    )
    libraries = {each.split()[0] for each in named if each.startswith("lib")}
    assert libraries == set(found.split())
    first, second = machine.shell("python3 -c 'import sys; print(*sys.version_info[:2])'").split()
    assert {f"python3 (>= {first}.{second})", f"python3 (<< {first}.{int(second) + 1})"} <= set(named)


def test_an_installation_starts_nothing_and_leaves_the_network_alone(installed: Installed) -> None:
    assert network(installed.machine) == installed.network
    assert {installed.machine.run("systemctl", "is-active", unit, check=False).stdout for unit in UNITS} == {"inactive\n"}
    assert installed.machine.run("systemctl", "is-enabled", "cellnet.target").stdout == "enabled\n"
    assert "systemctl start cellnet.target" in installed.printed


def test_man_completion_and_the_plugins_of_engines_are_where_they_are_looked_for(installed: Installed) -> None:
    words = "_CELLNET_COMPLETE=bash_complete COMP_WORDS='cellnet poli' COMP_CWORD=1"
    completed = installed.machine.shell(
        f". /usr/share/bash-completion/completions/cellnet; complete -p cellnet; {words} cellnet"
    )
    assert "plain,policy" in completed
    for path in ("man/man1/cellnet.1.gz", "man/man1/cellnet-policy.1.gz", "man/man5/agent.yaml.5.gz",
                 "zsh/vendor-completions/_cellnet", "fish/vendor_completions.d/cellnet.fish"):  # fmt: skip
        assert installed.machine.path(f"/usr/share/{path}").stat().st_size > 100
    version = installed.machine.shell("CNI_COMMAND=VERSION /usr/lib/cni/cellnet-cni </dev/null")
    assert "1.0.0" in json.loads(version)["supportedVersions"]
    assert json.loads(installed.machine.shell("/usr/libexec/netavark/cellnet info"))["version"]
    conflist = installed.machine.path("/usr/share/doc/cellnet/examples/cellnet.conflist").read_text()
    assert json.loads(conflist)["plugins"][0]["type"] == "cellnet-cni"


def test_the_documents_that_messages_name_are_there_with_all_that_they_lead_to(installed: Installed) -> None:
    place = installed.machine.path("/usr/share/doc/cellnet")
    code = "".join(each.read_text() for name in ("agent", "dataplane", "host") for each in (ROOT / name).rglob("*.py"))
    named = set(re.findall(r"\bdocs/[a-z-]+\.md", code))
    assert len(named) > 8
    assert {each for each in named if not (place / each).is_file()} == set()
    readme = (place / "README.md").read_text()
    ours = [each for each in re.findall(r"\]\((docs/[^)#]+)", readme) if not (place / each).exists()]
    assert ours == []


def test_it_starts_as_it_is_packaged_in_strict_mode(installed: Installed) -> None:
    try:
        as_shown(installed.machine, STARTED)
        assert "strict" in installed.machine.shell("cellnet status | grep '^  mutual TLS'")
    finally:
        installed.machine.shell("systemctl stop 'cellnet*'; cellnet teardown --force; rm -r /var/lib/cellnet")


def test_an_upgrade_loses_no_connection_plain_or_by_tls_and_runs_the_new_version(running: Running, upgraded: Replaced) -> None:
    assert upgraded.version == NEWER
    assert upgraded.exchanges.failed == []
    before, after = upgraded.agents
    assert after not in (0, before)
    assert running.cell.attachments().keys() == {"web", "api", "other"}


def test_an_agent_that_is_older_than_what_is_installed_is_reported(installed: Installed, upgraded: Replaced) -> None:
    assert upgraded
    metadata = "/usr/lib/cellnet/lib/python3.*/site-packages/cellnet-*.dist-info/METADATA"
    installed.machine.shell(f"sed -i.before 's/^Version: .*/Version: 10.0.0/' {metadata}")
    try:
        assert (
            f"version {NEWER} runs, and 10.0.0 is installed" in installed.machine.run("cellnet", "doctor", check=False).stdout
        )
    finally:
        installed.machine.shell(f"for each in {metadata}; do mv $each.before $each; done")


def test_an_upgrade_keeps_the_operators_configuration(upgraded: Replaced) -> None:
    assert upgraded.config == CONFIG


def test_a_downgrade_loses_no_connection_plain_or_by_tls_and_runs_the_old_version(
    running: Running, downgraded: Replaced
) -> None:
    assert downgraded.version.startswith("0.")
    assert downgraded.exchanges.failed == []
    before, after = downgraded.agents
    assert after not in (0, before)
    assert running.cell.attachments().keys() == {"web", "api", "other"}


def test_units_that_an_operator_has_disabled_stay_so(downgraded: Replaced, installed: Installed) -> None:
    assert downgraded
    assert installed.machine.run("systemctl", "is-enabled", "cellnet.target", check=False).stdout == "disabled\n"


def test_a_removal_leaves_state_configuration_and_accounts_and_the_network_as_it_was(
    removed: str, installed: Installed
) -> None:
    assert "Removing cellnet" in removed
    assert network(installed.machine) == installed.network
    kept = ("/var/lib/cellnet/cellnet.db", "/etc/cellnet/agent.yaml", "/etc/cellnet/policies.d/shop.yaml")
    assert [each for each in kept if not installed.machine.path(each).exists()] == []
    assert installed.machine.run("getent", "passwd", "cellnet-envoy").returncode == 0
    left = {each for each in files(installed.machine) - installed.files if each.startswith("/usr")}
    assert left == set()


def test_a_purge_leaves_nothing(purged: str, installed: Installed) -> None:
    assert "Purging" in purged
    assert files(installed.machine) - installed.files == set()
    assert installed.files - files(installed.machine) == set()
    assert network(installed.machine) == installed.network
