"""setup/: what it decides and what it must put back. Its parts are sourced by a shell and pointed at files of the test.

What this cannot show (packages, users and .venv on a host that has none) was tried by hand in fresh Debian roots.
"""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.release

ROOT = Path(__file__).resolve().parents[2]
OURS = "exit 101"
THEIRS = "#!/bin/sh\nexit 104\n"
VENV_INPUTS = ("pyproject.toml", "uv.lock", "setup/uv.txt", "agent/cni/plugin.py")


class Host:
    """A place where services are forbidden: POLICY and SAVED are the paths that setup/packages.sh writes."""

    def __init__(self, folder: Path) -> None:
        self.policy = folder / "policy-rc.d"
        self.saved = folder / "policy-rc.d.before-cellnet"
        self.etc = folder / "etc"

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script that has setup's functions."""
        places = f"POLICY={self.policy}; SAVED={self.saved}; ETC={self.etc}; LOG=/dev/null"
        head = f"set -eu; cd {ROOT}; . setup/packages.sh; {places}\n"
        fail = 'say() { :; }; fail() { echo "error: $1; hint: $2" >&2; exit 1; }\n'
        return subprocess.run(["sh", "-c", head + fail + script], capture_output=True, text=True, check=False)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_no_service_starts_while_packages_are_installed(host: Host) -> None:
    host.sh("packages_forbid_services")
    assert subprocess.run([host.policy], check=False).returncode == 101


def test_nothing_is_left_of_it_afterwards(host: Host) -> None:
    host.sh("packages_forbid_services; packages_restore")
    assert not host.policy.exists()
    assert not host.saved.exists()


def test_a_policy_that_was_there_is_put_back_with_its_mode(host: Host) -> None:
    host.policy.write_text(THEIRS)
    host.policy.chmod(0o750)
    host.sh("packages_forbid_services")
    assert OURS in host.policy.read_text()
    host.sh("packages_restore")
    assert host.policy.read_text() == THEIRS
    assert host.policy.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("target", ["there", "dangling"])
def test_a_policy_that_is_a_link_stays_one(host: Host, target: str) -> None:
    if target == "there":
        (host.policy.parent / target).write_text(THEIRS)
    host.policy.symlink_to(target)
    host.sh("packages_forbid_services; packages_restore")
    assert str(host.policy.readlink()) == target


def test_what_a_killed_setup_left_is_mended_by_the_next(host: Host) -> None:
    host.policy.write_text(THEIRS)
    host.sh("packages_forbid_services")  # killed here
    host.sh("packages_forbid_services; packages_restore")
    assert host.policy.read_text() == THEIRS
    assert not host.saved.exists()


def test_a_setup_killed_between_its_two_renames_loses_nothing(host: Host) -> None:
    host.saved.write_text(THEIRS)
    host.sh("packages_restore")
    assert host.policy.read_text() == THEIRS


def test_a_failed_installation_puts_the_policy_back_and_gives_a_hint(host: Host) -> None:
    host.policy.write_text(THEIRS)
    done = host.sh("apt() { false; }; install_packages nothing")
    assert done.returncode == 1
    assert "apt-get could not install nothing; hint: " in done.stderr
    assert host.policy.read_text() == THEIRS


@pytest.mark.parametrize("ends", ["", "; false"])
def test_a_service_that_came_with_a_package_does_not_start_at_the_next_boot_either(host: Host, ends: str) -> None:
    wants, level = host.etc / "systemd/system/multi-user.target.wants", host.etc / "rc3.d"
    for folder in (wants, level):
        folder.mkdir(parents=True)
    for link in (wants / "ours.service", level / "S01ours"):
        link.symlink_to("/nowhere")
    installs = f"ln -s /nowhere {wants}/nginx.service; ln -s /nowhere {level}/S02nginx"
    host.sh(f'apt() {{ case $1 in update) ;; *) {installs}{ends} ;; esac; }}; install_packages "nginx"')
    assert sorted(each.name for each in wants.iterdir()) == ["ours.service"]
    assert sorted(each.name for each in level.iterdir()) == ["K02nginx", "S01ours"]


def test_only_missing_packages_are_named(host: Host, tmp_path: Path) -> None:
    (tmp_path / "setup").mkdir()
    (tmp_path / "setup" / "packages.list").write_text(
        "# a comment for cellnet\ncoreutils cellnet\nno-such-package cellnet # why\nno-such-other bench\n"
    )
    assert host.sh(f"cd {tmp_path}; missing_packages 'cellnet test'").stdout == "no-such-package "
    assert host.sh(f"cd {tmp_path}; missing_packages 'cellnet bench'").stdout == "no-such-other no-such-package "


def test_every_package_has_a_purpose_that_setup_knows_and_a_reason() -> None:
    for line in (ROOT / "setup" / "packages.list").read_text().splitlines():
        if not line.startswith("#"):
            _, purpose, hash_, reason = line.split(maxsplit=3)
            assert purpose in {"cellnet", "demo", "lab", "test", "bench", "release", "machines", "deb"}
            assert (hash_, bool(reason)) == ("#", True)


@pytest.mark.parametrize(
    ("system", "fine"),
    [
        ('ID=debian\nVERSION_ID="12"', True),
        ('ID=debian\nVERSION_ID="13"', True),
        ("ID=debian", True),  # testing and unstable
        ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"', False),
    ],
)
def test_a_debian_older_than_12_is_refused_by_name(tmp_path: Path, system: str, fine: bool) -> None:
    release = tmp_path / "os-release"
    release.write_text(system + "\n")
    text = (ROOT / "setup" / "host.sh").read_text().replace("/etc/os-release", str(release))
    fail = 'fail() { echo "error: $1; hint: $2" >&2; exit 1; }\n'
    done = subprocess.run(["sh", "-euc", fail + text + "check_debian"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is fine, done.stderr
    if not fine:
        assert done.stderr.startswith("error: this is Debian 11; hint: use Debian 12 or newer")


def test_an_unknown_purpose_is_refused_before_anything_is_done() -> None:
    done = subprocess.run([ROOT / "setup" / "run", "dmeo"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "error: 'dmeo' is nothing that setup knows; hint: use demo, lab, test, check, bench, release, machines or deb\n"
    )


class Checkout:
    """A folder with what setup/venv.sh looks at, and a .venv that says it was made from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = (".venv/bin/cellnet", ".setup/sslyze/bin/sslyze")
        for name in (*VENV_INPUTS, "setup/sslyze.txt", ".setup/log", *programs):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        for name in programs:
            (folder / name).chmod(0o755)
        self.sh('venv_stamp "$(venv_inputs)" "test " >$STAMP; sslyze_inputs >$SSLYZE/.cellnet')

    def sh(self, script: str) -> int:
        """The exit code of a script that has setup's functions."""
        parts = f". {ROOT}/setup/venv.sh; . {ROOT}/setup/sslyze.sh"
        return subprocess.run(["sh", "-c", f"cd {self.folder}; {parts}; {script}"], check=False).returncode

    def current(self, purposes: str = "cellnet test") -> bool:
        """Whether setup would leave .venv alone."""
        return self.sh(f"venv_current '{purposes}'") == 0

    def scans(self, purposes: str = "cellnet test") -> bool:
        """Whether setup would leave the tests' TLS scanner alone."""
        return self.sh(f"sslyze_current '{purposes}'") == 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_a_venv_made_from_these_files_is_left_alone(checkout: Checkout) -> None:
    assert checkout.current()
    assert checkout.current("cellnet")  # asked for less than is there
    assert not checkout.current("cellnet check")


@pytest.mark.parametrize("name", VENV_INPUTS)
def test_a_change_of_what_it_was_made_from_makes_it_again(checkout: Checkout, name: str) -> None:
    (checkout.folder / name).write_text("new")
    assert not checkout.current()


def test_a_half_made_or_moved_venv_is_not_trusted(checkout: Checkout) -> None:
    (checkout.folder / ".setup" / "unfinished").touch()
    assert not checkout.current()
    (checkout.folder / ".setup" / "unfinished").unlink()
    assert checkout.current()
    checkout.folder = checkout.folder.rename(checkout.folder.parent / "elsewhere")
    assert not checkout.current()


def test_the_tests_scanner_is_made_again_for_tests_alone_where_its_list_has_changed_or_it_was_moved_or_is_half_made(
    checkout: Checkout,
) -> None:
    assert checkout.scans()
    stamp, names = checkout.folder / ".setup/sslyze/.cellnet", checkout.folder / "setup/sslyze.txt"
    names.write_text("new")
    assert not checkout.scans()
    assert checkout.scans("cellnet check bench")
    assert checkout.current()  # .venv has nothing to do with it
    checkout.sh("sslyze_inputs >$SSLYZE/.cellnet")
    assert checkout.scans()
    checkout.folder = checkout.folder.rename(checkout.folder.parent / "elsewhere")
    assert not checkout.scans()
    checkout.folder = checkout.folder.rename(checkout.folder.parent / "checkout")
    stamp.unlink()
    assert not checkout.scans()


def test_groups_of_an_earlier_setup_are_kept(checkout: Checkout) -> None:
    assert checkout.sh("[ \"$(venv_groups 'cellnet')\" = 'test ' ]") == 0


def test_the_checks_need_what_the_tests_import(checkout: Checkout) -> None:
    assert checkout.sh("[ \"$(venv_groups 'cellnet check')\" = 'test check ' ]") == 0


def test_ci_runs_the_readmes_command_as_an_ordinary_login_does(tmp_path: Path) -> None:
    (tmp_path / "make").write_text("#!/bin/sh\necho $(basename $0) $* with $(ulimit -Sn) files and umask $(umask)\n")
    (tmp_path / "make").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", ROOT / ".ci" / "run"], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "make test with 1024 files and umask 0027\n"
