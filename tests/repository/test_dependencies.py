"""What the package depends on is what the set-up installs for `cellnet`, less what only a build or a look takes."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OF_A_BUILD = {"python3-venv", "python3-dev", "gcc", "libc6-dev", "ca-certificates"}
FOR_A_LOOK = {"iproute2", "procps"}
ON_EVERY_DEBIAN = {"util-linux"}
FOUND_BY_THE_BUILD = {"python3"}
OF_THE_UNITS = {"systemd"}


def words(name: str) -> Iterator[list[str]]:
    """The words before the reason on each line of a list of packages; each line has a reason."""
    for line in (ROOT / name).read_text().splitlines():
        if not line.startswith("#"):
            before, _, reason = line.partition("#")
            assert reason.strip()
            yield before.split()


def test_the_package_depends_on_what_the_set_up_installs_to_run() -> None:
    installed = {package for package, purpose in words("setup/packages.list") if purpose == "cellnet"}
    named = {package for (package,) in words("package/depends.list")}
    assert named == installed - OF_A_BUILD - FOR_A_LOOK - ON_EVERY_DEBIAN - FOUND_BY_THE_BUILD | OF_THE_UNITS
