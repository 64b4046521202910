"""The Vagrantfile is one that Vagrant takes, for both of its providers, with and without a package to install."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.testlib.documents import ROOT

PROVIDERS = ("libvirt", "virtualbox")
# VirtualBox is not in Debian, and Vagrant asks for its version before it looks at the settings
PRESENT = "#!/bin/sh\necho 6.1.50r1\n"


def validate(folder: Path, *, provider: str) -> "subprocess.CompletedProcess[str]":
    """What `vagrant validate` says of the Vagrantfile in a folder, with a home of its own."""
    stand_in = folder.parent / "bin/VBoxManage"
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text(PRESENT)
    stand_in.chmod(0o755)
    return subprocess.run(
        ["vagrant", "validate"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{stand_in.parent}:{os.environ['PATH']}", "VAGRANT_HOME": str(folder.parent / "home"),
             "VAGRANT_DEFAULT_PROVIDER": provider},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of vagrant/, since Vagrant writes beside the file."""
    return Path(shutil.copytree(ROOT / "vagrant", tmp_path / "vagrant", ignore=shutil.ignore_patterns(".vagrant")))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vagrant_takes_the_vagrantfile(folder: Path, provider: str) -> None:
    done = validate(folder, provider=provider)
    assert (done.returncode, done.stdout.strip()) == (0, "Vagrantfile validated successfully."), done.stderr
    assert list((folder / ".vagrant").glob("*ed25519*")) == [], "a look makes no key"


def test_a_package_that_was_built_is_what_the_machines_get(folder: Path) -> None:
    package = folder.parent / ".setup/deb/bookworm/cellnet_1_amd64.deb"
    package.parent.mkdir(parents=True)
    package.touch()
    with (folder / "Vagrantfile").open("a") as file:
        file.write("\nabort PACKAGE\n")
    done = validate(folder, provider="libvirt")
    assert str(package) == str(Path(done.stderr.strip()).resolve())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_setting_that_the_provider_does_not_know_is_found(folder: Path, provider: str) -> None:
    file = folder / "Vagrantfile"
    file.write_text(file.read_text().replace(f"{provider}.memory", f"{provider}.memori"))
    done = validate(folder, provider=provider)
    assert done.returncode == 1
    assert "shouldn't exist: memori" in done.stderr
