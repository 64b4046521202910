"""The units of systemd and the page that gives each line its reason; the accounts, which two files name."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted(path.name for path in (ROOT / "systemd").iterdir() if path.suffix in {".service", ".target"})


def lines_of(unit: str) -> Iterator[str]:
    for line in (ROOT / "systemd" / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            yield line


def explained() -> set[str]:
    return set(re.findall(r"^\| `([A-Z]\w+=[^`]*)` \|", (ROOT / "systemd/README.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("unit", UNITS)
def test_each_line_of_a_unit_has_its_reason(unit: str) -> None:
    assert [line for line in lines_of(unit) if line not in explained()] == []


def test_no_line_is_explained_that_no_unit_has() -> None:
    assert explained() - {line for unit in UNITS for line in lines_of(unit)} == set()


def test_both_files_make_the_same_accounts() -> None:
    made = re.findall(r"^[ug] (\S+)", (ROOT / "systemd/sysusers.d/cellnet.conf").read_text(), re.MULTILINE)
    users = re.search(r"^USERS='(.*)'$", (ROOT / "setup/accounts.sh").read_text(), re.MULTILINE)
    assert users
    assert made == ["cellnet", *users[1].split()]
