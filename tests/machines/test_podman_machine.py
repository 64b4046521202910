"""podman 5 on Debian 13, by its netavark plugin, in strict mode: attached, enforced, and back with a boot."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from tests.testlib.documents import blocks, commands
from tests.testlib.machines.cell import MachineCell
from tests.testlib.machines.machine import Machine, Segment
from tests.testlib.machines.packages import APT, PLACE, package_of, put
from tests.testlib.node import Connected, Node
from tests.testlib.patience import eventually

pytestmark = pytest.mark.timeout(900)  # where a package is built for the first time
API, WEB, OTHER, FRONT = (f"acme/shop/{each}" for each in ("api", "web", "other", "front"))
ROOT = "/root/rootfs"
# Of a container without an image, in a machine that is one itself
CONF = """[containers]
pids_limit = 0
keyring = false
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "/var/lib/containers/storage"\nrunroot = "/run/containers/storage"\n'
INSIDE = f"--volume /usr:/usr:ro --stop-timeout 0 --rootfs {ROOT}"
CALL = "import urllib.request as r; print(r.urlopen('http://api:8080/', timeout=5).status)"
BESIDE = "beside"  # on podman's own network


class PodmanCell(MachineCell):
    """A cell whose containers are podman's."""

    def podman(self, words: str, *, check: bool = True) -> str:
        """`podman WORDS`; what it prints."""
        return self.machine.run("podman", *words.split(), check=check).stdout

    def container(self, name: str, app: str, command: str = "sleep infinity") -> None:
        """One that podman's own unit starts, now and at each boot: api with the package's hook, others with the document's
        resolver.
        """
        dns = "--dns 169.254.0.2 --dns-search shop.acme.cell.internal --dns-option ndots:2"
        options = (
            f"--restart always --network cellnet --network-alias {app} {'--annotation cellnet=yes' if app == API else dns}"
        )
        self.podman(f"create --name {name} {options} {INSIDE} {command}")

    def environment(self, name: str) -> list[str]:
        """Of a container's first process."""
        return self.machine.run("podman", "exec", name, "sh", "-c", "tr '\\0' '\\n' </proc/1/environ").stdout.splitlines()

    def calls(self, name: str) -> bool:
        """Whether a container's call to api, by its name, gets an answer."""
        return self.machine.run("podman", "exec", name, "python3", "-c", CALL, check=False).stdout == "200\n"


@pytest.fixture(scope="module")
def cell(segment: Segment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodmanCell]:
    """With the package, podman's network as the document makes it, an api, web that may call it and other that may not."""
    machine = Machine(segment, 1, folder=tmp_path_factory.mktemp("machine"), release="trixie", checkout=False)
    try:
        machine.ready().path("/etc/apt/apt.conf.d/90test").write_text(APT)
        package = package_of("trixie")
        with put(machine, package):
            machine.shell(f"cd {PLACE}; apt-get install ./{package.name}", timeout=120)
        machine.path("/etc/containers/containers.conf").write_text(CONF)
        machine.path("/etc/containers/storage.conf").write_text(STORAGE)
        machine.shell(f"mkdir -p {ROOT}; cd {ROOT}; mkdir usr etc proc sys dev tmp run; ln -s usr/{{bin,lib,lib64,sbin}} .")
        made = PodmanCell(machine, config="tls: {mtls: strict}\n", apps=False)
        made.write("/etc/cellnet/policies.d/shop.yaml", f"policies: [{{from: {WEB}, to: {API}, tcp: 8080}}]\n")
        (network,) = blocks("docs/engines.md", test="tests/machines/test_podman_machine.py")
        machine.shell(f'sudo() {{ "$@"; }}; {"; ".join(commands(network))}')
        made.container("api", API, "python3 -m http.server 8080")
        made.container("web", WEB)
        made.container("other", OTHER)
        machine.run("systemctl", "enable", "--now", "--quiet", "podman-restart.service")
        yield made
    finally:
        machine.close()


def test_a_policy_lets_one_container_of_podman_5_call_another_and_a_third_one_is_refused(cell: PodmanCell) -> None:
    assert cell.attachments().keys() == {"api", "web", "other"}
    eventually(lambda: cell.calls("web"))
    assert not cell.calls("other")


def test_the_resolver_inside_is_ours_alone(cell: PodmanCell) -> None:
    lines = cell.podman("exec web cat /etc/resolv.conf").splitlines()
    wanted = {"search shop.acme.cell.internal", "nameserver 169.254.0.2", "options ndots:2"}
    assert set(lines) - {""} == wanted


def test_the_packages_hook_gives_environment_certificates_and_resolver(cell: PodmanCell) -> None:
    found = dict(line.split("=", 1) for line in cell.environment("api"))
    assert found["CF_INSTANCE_INTERNAL_IP"] == cell.attachments()["api"]
    assert cell.podman(f"exec api head -1 {found['CF_INSTANCE_KEY']}").startswith("-----BEGIN")
    assert "search shop.acme.cell.internal acme.cell.internal\n" in cell.podman("exec api cat /etc/resolv.conf")


def test_a_port_that_podman_is_to_publish_opens_by_policy(cell: PodmanCell) -> None:
    """podman 5 holds it from before it asks for the network."""
    outside = Node(cell.machine.segment.lan.path, address=IPv4Address("10.77.0.254"))

    def calls() -> bool:
        return outside.connect(IPv4Address(cell.machine.address), 7080) is Connected

    words = f"--network cellnet --network-alias {FRONT} --publish 7080:8080 {INSIDE} python3 -m http.server 8080"
    cell.podman(f"run --detach --name front {words}")
    try:
        assert "front" in cell.attachments()
        cell.wait_well()
        assert not calls()
        cell.machine.shell(f"cellnet policy allow 10.77.0.0/24 {FRONT} tcp/8080 --name front")
        eventually(calls)
        cell.podman("network reload front")
        eventually(calls)
        cell.wait_well()
        cell.machine.shell("cellnet policy delete front")
        assert not calls()
    finally:
        cell.podman("rm --force --time 0 front")


def test_podman_that_makes_its_own_rules_anew_leaves_ours_whole(cell: PodmanCell) -> None:
    cell.podman(f"run --detach --name {BESIDE} --network podman {INSIDE} sleep infinity")
    addresses, rules = cell.attachments(), "iptables-save | grep '^-A.*CELLNET'"
    before = cell.machine.shell(rules)
    try:
        cell.podman("network reload --all")
        assert cell.attachments() == addresses
        assert cell.machine.shell(rules) == before
        eventually(lambda: cell.calls("web"))
        assert not cell.calls("other")
    finally:  # a boot would wait for what no unit has started
        cell.podman(f"rm --force --time 0 {BESIDE}")
    cell.wait_well()


def test_a_boot_brings_its_containers_back_attached_and_enforced(cell: PodmanCell) -> None:
    cell.machine.reboot()
    eventually(lambda: cell.attachments().keys() == {"api", "web", "other"}, seconds=60)
    cell.wait_well()
    eventually(lambda: cell.calls("web"))
    assert not cell.calls("other")
    assert f"CF_INSTANCE_INTERNAL_IP={cell.attachments()['api']}" in cell.environment("api")


def test_what_podman_removes_is_attached_no_longer(cell: PodmanCell) -> None:
    cell.podman("rm --force --time 0 api web other")
    eventually(lambda: cell.attachments() == {})
