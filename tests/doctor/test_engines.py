"""An engine that goes by settings with which it does not find cellnet's network."""

import shutil
from pathlib import Path

import pytest

from agent.doctor import engines
from agent.errors import HostRefused

SHIPPED = Path("agent/cni/cellnet.conflist")


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Says that it is podman 4.3; only its version is asked for."""
    program = tmp_path / "bin/podman"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's files, with the network as it is shipped."""
    networks = tmp_path / "root" / engines.NETWORKS
    networks.mkdir(parents=True)
    shutil.copy(SHIPPED, networks / "50-cellnet.conflist")
    return tmp_path / "root"


def chooses(root: Path, backend: str) -> None:
    (root / engines.CHOSEN).parent.mkdir(parents=True, exist_ok=True)
    (root / engines.CHOSEN).write_text(backend)


def writes(root: Path, file: str, text: str) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)


def whats(root: Path) -> list[str]:
    return [each.what for each in engines.podman(root=root).problems]


@pytest.mark.usefixtures("podman")
def test_podman_4_that_goes_by_netavark_does_not_find_the_network(root: Path) -> None:
    (before,) = whats(root)
    assert "podman 4 takes no plugins of netavark, and may choose it" in before
    chooses(root, "netavark")
    (problem,) = engines.podman(root=root).problems
    assert problem.what.startswith("podman 4 takes no plugins of netavark, and goes by it")
    assert "network_backend" in problem.hint
    (root / engines.NETWORKS / "50-cellnet.conflist").unlink()
    assert engines.podman(root=root).problems == (), "nobody wants it to find one"


@pytest.mark.usefixtures("podman")
def test_what_is_written_counts_before_what_podman_has_chosen_and_the_last_file_wins(root: Path) -> None:
    chooses(root, "netavark")
    writes(root, "etc/containers/containers.conf", '[network]\nnetwork_backend = "cni"\n')
    assert whats(root) == []
    writes(root, "etc/containers/containers.conf.d/50.conf", '[network]\nnetwork_backend = "netavark"\n')
    assert len(whats(root)) == 1
    writes(root, "etc/containers/containers.conf.d/50.conf", "[network\n")
    assert whats(root) == []


def test_a_podman_that_has_plugins_of_netavark_is_well_and_one_that_says_nothing_is_named(root: Path, podman: Path) -> None:
    podman.write_text("#!/bin/sh\necho podman version 5.4.2\n")
    assert engines.podman(root=root).about == "podman 5, which goes by netavark"
    podman.write_text("#!/bin/sh\n")
    with pytest.raises(HostRefused, match="does not say its version"):
        engines.podman(root=root)


def test_a_network_that_cannot_be_read_is_podmans_to_complain_of(root: Path, podman: Path) -> None:
    podman.write_text("#!/bin/sh\necho podman version 4.3.1\n")
    for text in ("{", "[]", '{"plugins": 1}', '{"plugins": [1]}'):
        writes(root, f"{engines.NETWORKS}/50-cellnet.conflist", text)
        assert whats(root) == []


def test_the_podman_of_this_host_says_its_version() -> None:
    assert engines.podman().about.startswith("podman ")
