"""The package on machines of both releases: installed, removed and purged as an operator does it."""

from collections.abc import Iterator

import pytest

from tests.testlib.machines import Machine, Segment
from tests.testlib.packages import install, package_of

RELEASES = ("bookworm", "trixie")


@pytest.fixture(scope="module", params=RELEASES)
def installed(request: pytest.FixtureRequest, segment: Segment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine of a release with its package."""
    release = str(request.param)
    package = package_of(release)
    machine = Machine(segment, 1, folder=tmp_path_factory.mktemp(release), release=release, checkout=False)
    try:
        install(machine.ready(), package)
        yield machine
    finally:
        machine.close()


def test_the_installed_command_has_what_it_imports_and_needs_no_compiler(installed: Machine) -> None:
    assert installed.shell("cellnet --version").startswith("cellnet ")
    compiled = "import _cffi_backend, cryptography.x509, google._upb._message, grpc, iptc, pydantic, yaml, aiohttp"
    installed.run("/usr/lib/cellnet/bin/python", "-Ic", compiled)
    assert "no gcc" in installed.shell("command -v gcc || echo no gcc")
