"""Envoy's user must reach its sockets and the namespaces, and dnsmasq's the names, whatever umask and folders `up` has; Envoy's
program runs anywhere."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from dataplane.envoy.process.command import bundled_envoy
from lab import children
from lab.cell import Cell, Part
from tests.testlib.cell import CellUnderTest
from tests.testlib.dns.client import ask
from tests.testlib.patience import eventually
from tests.testlib.shop import follows_policy, three_apps


class MaskedCell(Cell):
    """Its `up` is started under a umask."""

    umask: ClassVar[str]

    def start(self) -> None:
        """As Cell.start, for what does not run."""
        if self.part(Part.UP) is None:
            words = ["sh", "-c", f'umask {self.umask}; exec "$@"', "sh", *children.CELLNET, "--root", str(self.root), "up"]
            children.start(words, netns=self.netns, root=self.root, log=self.log)


class Cell027(MaskedCell):
    umask = "027"


class Cell077(MaskedCell):
    umask = "077"


@pytest.mark.parametrize("kind", [Cell027, Cell077])
def test_no_umask_keeps_envoy_and_dnsmasq_from_serving(kind: type[Cell], make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell(kind=kind)
    apps = three_apps(cell)
    assert follows_policy(*apps)
    eventually(lambda: ask(apps[0], "api.shop.acme.cell.internal").addresses == [str(apps[1].address)])
    assert {each.at("tls").text("state") for each in cell.client.get("/v1/attachments").each()} == {"ready"}


def test_a_folder_that_envoys_user_cannot_enter_is_named(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell()
    parent = cell.lab.root
    before = parent.stat().st_mode
    try:
        parent.chmod(0o700)
        cell.kill("envoy", again=True)
        what = f"Envoy's user 'cellnet-envoy' cannot enter {parent}"
        eventually(lambda: what in [each.text("what") for each in cell.status().at("problems").each()])
        eventually(lambda: f"error: {what}; hint: chmod o+x {parent}" in cell.log)
    finally:
        parent.chmod(before)
    cell.wait_well()
    assert "bootstrap" not in cell.log


def test_a_program_below_a_folder_that_only_root_can_enter_runs(make_cell: Callable[..., CellUnderTest]) -> None:
    closed = Path(tempfile.mkdtemp(prefix="cnt-home-", dir="/run"))  # mode 0700, as a user's home is
    try:
        (closed / "bin").mkdir()
        (closed / "bin").chmod(0o755)
        shutil.copy(bundled_envoy(), closed / "bin" / "envoy")
        cell = make_cell(f"envoy.binary={closed}/bin/envoy")
        assert follows_policy(*three_apps(cell))
    finally:
        shutil.rmtree(closed)
