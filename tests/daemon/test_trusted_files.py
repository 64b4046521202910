"""Each file that decides what root does is guarded at its door, and is a line in the status while others can write it."""

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.config.current import CurrentConfig
from agent.config.etcd import Etcd, EtcdEndpoint
from agent.config.load import load
from agent.control.config_in_force import ConfigInForce
from agent.daemon.clock import Clock
from agent.daemon.parts.foundation import lay_foundation
from agent.daemon.trusted_files import TrustedFiles, deciding_files
from agent.envoy.process import exec_envoy
from agent.errors import HostRefused
from agent.policy.directory.files import PolicyFiles
from agent.store.etcd.connection import EtcdAccess
from ca.disk import load_or_create
from ca.errors import CaRefused

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
EVERYTHING = """
store: {etcd: {endpoints: ['https://192.0.2.1:2379'], ca: /etcd/ca.crt, cert: /etcd/cell.crt, key: /etcd/cell.key,
  username: cell-1, password_file: /etcd/password}}
envoy: {binary: %s/envoy}
"""
FILES = {
    "var/lib/cellnet/cellnet.db": ("store", 0o644),
    "var/lib/cellnet/ca/root.crt": ("identity", 0o644),
    "var/lib/cellnet/ca/cell.crt": ("identity", 0o644),
    "var/lib/cellnet/ca/root.key": ("identity", 0o600),
    "var/lib/cellnet/ca/cell.key": ("identity", 0o600),
    "envoy": ("envoy", 0o755),
    "etcd/ca.crt": ("store", 0o644),
    "etcd/cell.crt": ("store", 0o644),
    "etcd/cell.key": ("store", 0o600),
    "etcd/password": ("store", 0o600),
}
SECRETS = [name for name, (_, mode) in FILES.items() if mode == 0o600]


@pytest.fixture
def part(tmp_path: Path) -> TrustedFiles:
    for name, (_, mode) in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "var/lib/cellnet/policies").mkdir()
    config = tmp_path / "agent.yaml"
    config.write_text(EVERYTHING % tmp_path)
    found = load(config, root=tmp_path, hostname="one")
    files = {str(each.path.relative_to(tmp_path)) for each in deciding_files(found)}
    assert files == {*FILES, "var/lib/cellnet/policies"}
    return TrustedFiles(found)


def test_what_root_alone_can_write_is_no_problem(part: TrustedFiles) -> None:
    assert list(part.problems()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_others_can_write_is_a_problem_until_it_is_mended(part: TrustedFiles, tmp_path: Path, name: str) -> None:
    area, mode = FILES[name]
    (tmp_path / name).chmod(0o666)
    assert [each.area for each in part.problems()] == [area]
    assert next(iter(part.problems())).what == f"{tmp_path}/{name} can be written by group or others (mode 0666)"
    (tmp_path / name).chmod(mode)
    assert list(part.problems()) == []


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_others_can_read_is_a_problem(part: TrustedFiles, tmp_path: Path, name: str) -> None:
    (tmp_path / name).chmod(0o644)
    assert [each.what for each in part.problems()] == [f"{tmp_path}/{name} can be read by others than root (mode 0644)"]


def test_a_config_that_others_can_write_starts_nothing_and_is_a_problem_for_a_running_agent(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("cell: one\n")
    running = ConfigInForce(
        CurrentConfig(load(path, root=None, hostname="host")),
        load=lambda: load(path, root=None, hostname="host"),
        take=lambda _: None,
    )
    path.chmod(0o666)
    with pytest.raises(HostRefused, match=r"agent\.yaml can be written by group or others \(mode 0666\)") as refused:
        load(path, root=None, hostname="host")
    assert refused.value.hint == f"chown root {path} && chmod go-w {path}"
    assert [each.what for each in running.problems()] == [refused.value.what]
    path.chmod(0o644)
    os.chown(path, 65534, 0)
    with pytest.raises(HostRefused, match="belongs to uid 65534"):
        load(path, root=None, hostname="host")


async def test_a_database_that_others_can_write_is_not_opened(part: TrustedFiles, tmp_path: Path) -> None:
    config = load(tmp_path / "agent.yaml", root=tmp_path, hostname="one")
    config.paths.database.chmod(0o666)
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(HostRefused, match=r"cellnet\.db can be written by group or others"):
            await lay_foundation(config, clock=Clock(), stack=stack)


def test_an_envoy_that_others_can_exchange_is_not_started(tmp_path: Path) -> None:
    binary = tmp_path / "envoy"
    binary.touch()
    binary.chmod(0o777)
    config = load(tmp_path / "none", root=tmp_path, hostname="one", overrides=[f"envoy.binary={binary}", "envoy.user=root"])
    with pytest.raises(HostRefused, match=r"envoy can be written by group or others"):
        exec_envoy(config)


def test_files_of_etcd_are_not_taken_from_others(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key", "password"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    endpoint = EtcdEndpoint("127.0.0.1", 2379, tls=True)
    etcd = Etcd(
        (endpoint,), ca=tmp_path / "ca", cert=tmp_path / "cert", key=tmp_path / "key", username="one",
        password_file=tmp_path / "password",
    )  # fmt: skip
    assert EtcdAccess(etcd).password() == "x"
    (tmp_path / "password").chmod(0o644)
    with pytest.raises(HostRefused, match="password can be read by others than root"):
        EtcdAccess(etcd).password()
    for name, mode, words in (("key", 0o640, "read"), ("cert", 0o620, "written"), ("ca", 0o602, "written")):
        (tmp_path / name).chmod(mode)
        with pytest.raises(HostRefused, match=f"{name} can be {words}"):
            EtcdAccess(etcd).channel(endpoint)
        (tmp_path / name).chmod(0o600)


@pytest.mark.parametrize("name", ["root.crt", "cell.crt"])
def test_certificates_that_others_can_write_vouch_for_nothing(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "ca"
    load_or_create(folder, cell="one", trust_domain="cell.internal", now=NOW)
    (folder / name).chmod(0o666)
    with pytest.raises(CaRefused, match=f"{name} may be written by others") as refused:
        load_or_create(folder, cell="one", trust_domain="cell.internal", now=NOW)
    assert refused.value.hint == f"if it is the right one: chown 0 {folder / name}; chmod go-w {folder / name}"


@pytest.mark.parametrize("spoilt", ["folder", "copy"])
def test_saved_good_versions_that_others_could_write_are_not_taken(tmp_path: Path, spoilt: str) -> None:
    directory, copies = tmp_path / "policies.d", tmp_path / "state"
    directory.mkdir()
    (directory / "a.yaml").write_text("policies: [{name: one, from: a/b/c, to: a/b/d, tcp: 80}]\n")
    files = PolicyFiles(directory, last_good=copies)
    files.scan(0.0)
    saved = files.unsaved
    files.note_saved(saved, files.save(saved))
    (directory / "a.yaml").write_text("policies: [")
    (copies if spoilt == "folder" else copies / "a.yaml").chmod(0o777)
    files = PolicyFiles(directory, last_good=copies)
    files.scan(0.0)
    assert files.policies() == ()
