"""What is wrong with a host besides its network, each made there."""

import os
import re
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.config.config import Mtls
from agent.doctor import certificates, programs, store_reach, surroundings
from agent.doctor.checks import Finding, HostCheck, examine
from agent.doctor.kernel_features import Feature, features, missing, rule
from agent.doctor.saved_settings import saved_settings
from agent.errors import HostRefused, Unavailable
from agent.model.status import Problem
from ca.disk import load_or_create
from dataplane.firewall.backends.backends import Backend
from tests.doctor.conftest import ETCD, Configured, inside
from tests.testlib.netns import Netns
from tests.testlib.stores.etcd import Etcd

NOW = datetime.now(UTC)
TRACES = (
    "nft list ruleset; iptables-legacy-save; ip -o link 2>/dev/null | cut -d: -f2"  # `ip` speaks of namespaces that come and go
)


def only(found: Finding) -> Problem:
    (problem,) = found.problems
    return problem


# the kernel


@pytest.mark.parametrize("backend", Backend)
def test_this_kernel_has_all_that_is_needed_and_nothing_is_left_of_the_trial(host: Netns, backend: Backend) -> None:
    before = host.run("sh", "-c", TRACES)
    found = inside(host, lambda: missing(features(backend, mtls=Mtls.STRICT, shared=True)))
    assert found.problems == ()
    assert found.about == "17 features tried"
    assert host.run("sh", "-c", TRACES) == before


@pytest.mark.parametrize("backend", Backend)
def test_a_feature_that_this_kernel_lacks_is_named_with_its_module(backend: Backend) -> None:
    # iptables knows ULOG still; no kernel has had it since 3.17
    lacking = Feature("logs to userspace", "ipt_ULOG", rule("filter", "-j ULOG", backend=backend))
    having = Feature("rules by marks", "xt_mark", rule("filter", "-m mark --mark 1 -j DROP", backend=backend))
    problem = only(missing([lacking, having]))
    assert problem.what.startswith("this kernel does not have logs to userspace: iptables-")
    assert problem.hint.startswith("modprobe ipt_ULOG;")


# programs and users


def test_programs_that_are_not_there_are_named(tmp_path: Path, configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.programs(configured()).problems == ()
    config = configured("envoy: {binary: /opt/envoy}\n")
    assert only(programs.programs(config)).what == "/opt/envoy is not there"
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    broken.chmod(0o755)
    assert "no such library" in only(programs.programs(configured(f"envoy: {{binary: {broken}}}\n"))).what
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "PATHS", "")
    found = {each.what: each.hint for each in programs.programs(config).problems}
    assert found["setpriv is not installed"] == "apt-get install util-linux"
    assert found["iptables-nft-restore is not installed"] == "apt-get install iptables"


def test_users_that_are_missing_or_kept_out_are_named(configured: Configured) -> None:
    found = programs.accounts(configured("envoy: {user: nobody-here}\ndns: {user: nor-here, hop_user: nor-there}\n"))
    assert ["nobody-here" in found.problems[0].what, "nor-here" in found.problems[1].what] == [True, True]
    assert "useradd --system" in found.problems[2].hint
    config = configured()
    config.paths.netns.mkdir(parents=True)
    assert programs.accounts(config).problems == ()
    config.paths.run.chmod(0o700)
    assert {each.hint for each in programs.accounts(config).problems} == {f"chmod o+x {config.paths.run}"}


# settings, limits and the environment


def test_a_file_that_switches_forwarding_off_is_mended_by_the_hint(tmp_path: Path) -> None:
    folders = [tmp_path / "etc", tmp_path / "lib"]
    for each in folders:
        each.mkdir()
    hard, main = folders[0] / "50-hard.conf", tmp_path / "sysctl.conf"
    hard.write_text("# ours\nkernel.sysrq = 0\n-net/ipv4/ip_forward=0\n")
    (folders[1] / "50-hard.conf").write_text("net.ipv4.conf.all.forwarding = 0\n")  # hidden by the other of that name
    problem = only(saved_settings(folders, main))
    assert problem.what.startswith(f"{hard} sets net.ipv4.ip_forward to 0")
    subprocess.run(problem.hint, shell=True, check=True)
    assert saved_settings(folders, main).problems == ()
    hard.write_text("net.ipv4.ip_forward=0\n")
    (folders[1] / "99-router.conf").write_text("net.ipv4.ip_forward=1\n")
    assert saved_settings(folders, main).problems == (), "a later file counts"
    main.write_text("net.ipv4.ip_forward = 0\n")
    assert str(main) in only(saved_settings(folders, main)).what


def test_a_low_limit_of_open_files_is_named() -> None:
    assert surroundings.open_files(os.getpid()).problems == ()
    child = subprocess.Popen(["sleep", "60"])
    try:
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (1024, 1024))
        problem = only(surroundings.open_files(child.pid))
        assert "may open 1024 files" in problem.what
        assert "LimitNOFILE" in problem.hint
    finally:
        child.kill()
        child.wait()


def test_a_table_of_flows_that_is_nearly_full_is_named(host: Netns) -> None:
    host.run("iptables-nft", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW")
    assert inside(host, surroundings.tracked_flows).problems == ()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            for port in range(9000, 9050):
                made.sendto(b"x", ("127.0.0.1", port))

    inside(host, send)
    problem = only(inside(host, lambda: surroundings.tracked_flows(full=1e-5)))
    assert "nearly full" in problem.what
    assert "nf_conntrack_max=" in problem.hint


def test_a_host_without_inotify_instances_is_named() -> None:
    assert surroundings.inotify().problems == ()
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "from agent.doctor import surroundings; import os\n"
        "held = [os.open('/dev/null', 0) for _ in range(40 - len(os.listdir('/proc/self/fd')) + 1)]\n"
        "print(surroundings.inotify().problems[0].what)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no inotify instance is left: Too many open files" in done.stdout


def test_a_proxy_without_exemption_of_the_cells_names_is_named(tmp_path: Path, configured: Configured) -> None:
    file, config = tmp_path / "environment", configured()
    look = surroundings.proxies
    assert look(config, environment={}, file=file).problems == ()
    proxy = {"HTTPS_PROXY": "http://192.0.2.1:3128"}
    problem = only(look(config, environment=proxy, file=file))
    assert "apps.internal" in problem.what
    exempt = problem.hint.partition(" ")[0].removeprefix("no_proxy=")
    assert look(config, environment={**proxy, "no_proxy": exempt}, file=file).problems == ()
    file.write_text('# proxy\nexport http_proxy="http://192.0.2.1:3128"\nno_proxy=.apps.internal\n')
    assert "in cell.internal," in only(look(config, environment={}, file=file)).what


# certificates, clock, store


def test_certificates_are_whole_and_far_from_their_end(configured: Configured) -> None:
    config = configured()
    assert "makes them" in certificates.authorities(config, now=NOW).about
    load_or_create(config.paths.ca, cell="cell-1", trust_domain="cell.internal", now=NOW)
    assert certificates.authorities(config, now=NOW).problems == ()
    later = NOW + timedelta(days=3600)
    assert only(certificates.authorities(config, now=NOW - timedelta(days=3))).hint == "check the clock"
    (config.paths.ca / "root.key").unlink()
    found = only(certificates.authorities(config, now=NOW + timedelta(days=80)))
    assert "cell.crt ends on" in found.what
    assert "cellnet ca issue-cell --cell cell-1" in found.hint
    assert "expired" in only(certificates.authorities(config, now=later)).what
    (config.paths.ca / "cell.key").chmod(0o644)
    assert "chmod 600" in only(certificates.authorities(config, now=NOW)).hint


def test_a_root_that_ends_soon_is_rotated(configured: Configured) -> None:
    config = configured()
    load_or_create(
        config.paths.ca, cell="cell-1", trust_domain="cell.internal", now=NOW, root_lifetime=timedelta(days=60),
        cell_lifetime=timedelta(days=50),
    )  # fmt: skip
    assert only(certificates.authorities(config, now=NOW)).hint == "cellnet ca rotate"


def test_where_cells_demand_tls_a_missing_root_is_named(configured: Configured) -> None:
    assert "issue-cell" in only(certificates.authorities(configured(f"{ETCD}tls: {{mtls: strict}}\n"), now=NOW)).hint


def test_certificates_of_the_configuration_that_end_or_are_missing_are_named(root: Path, configured: Configured) -> None:
    load_or_create(root / "ca", cell="cell-1", trust_domain="cell.internal", now=NOW, cell_lifetime=timedelta(days=20))
    text = "store: {etcd: {endpoints: ['https://127.0.0.1:9'], ca: /ca/cell.crt}}\n"
    look = certificates.named
    assert look(configured(text), now=NOW).problems == ()
    assert "ends on" in only(look(configured(text), now=NOW + timedelta(days=10))).what
    assert "has ended on" in only(look(configured(text), now=NOW + timedelta(days=30))).what
    assert "clock" in only(look(configured(text), now=NOW - timedelta(days=10))).hint
    assert "cannot read" in only(look(configured(text.replace("cell.crt", "gone.crt")), now=NOW)).what
    assert "no readable certificate" in only(look(configured(text.replace("cell.crt", "cell.key")), now=NOW)).what


def test_a_clock_that_follows_no_time_server_is_named_among_cells(configured: Configured) -> None:
    assert store_reach.clock_state() in range(6)
    unsynchronized = store_reach.UNSYNCHRONIZED
    assert only(store_reach.clock(configured(ETCD), state=unsynchronized)).hint.startswith("timedatectl set-ntp true")
    assert store_reach.clock(configured(ETCD), state=0).problems == ()
    assert store_reach.clock(configured(), state=unsynchronized).problems == ()


def test_an_etcd_that_does_not_answer_is_a_problem_and_no_end_of_the_examination(configured: Configured) -> None:
    with pytest.raises(Unavailable):
        store_reach.etcd(configured(ETCD))
    store, last = examine(
        [HostCheck("store", lambda: store_reach.etcd(configured(ETCD))), HostCheck("last", lambda: Finding("well"))]
    )
    assert not store.is_well
    assert last.is_well
    assert store_reach.etcd(configured()).about.startswith("sqlite")


def test_an_etcd_that_is_slow_is_named_with_the_time_that_it_takes(tmp_path: Path, configured: Configured) -> None:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    try:
        config = configured(f"store: {{etcd: {{endpoints: ['{etcd.endpoint}']}}}}\n")
        found = store_reach.etcd(config, slow=60.0)
        assert found.problems == ()
        assert re.search(r"answers in \d+\.\d ms", found.about)
        assert "ms for an answer" in only(store_reach.etcd(config, slow=0.0)).what
    finally:
        etcd.kill()


def test_what_two_checks_say_stands_once() -> None:
    def refuse() -> Finding:
        raise HostRefused("the disk is full", hint="make room")

    one, two = examine([HostCheck("one", refuse), HostCheck("two", refuse)])
    assert one.finding.problems == (Problem("kernel", "the disk is full", "make room"),)
    assert two.is_well
