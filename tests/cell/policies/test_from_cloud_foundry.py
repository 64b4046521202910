"""The walk-through for users of Cloud Foundry, line by line in a real cell, in each mode of mutual TLS."""

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks
from tests.testlib.shell import Shell

PAGE, THIS = "docs/from-cloud-foundry.md", "tests/cell/policies/test_from_cloud_foundry.py"
REFUSED = "curl: (7) Failed to connect to {} port {} after 0 ms: Couldn't connect to server"
CLOSED = r"curl: \((52\) Empty reply from server|56\) Recv failure: Connection reset by peer)"
FROM_OUTSIDE = 4  # the last blocks: what they show is the same in each mode, and is looked at in one
ENDS = (("10.255.1.2", 8080), ("10.255.1.3", 8080), ("appB.apps.internal", 8085))


@pytest.mark.parametrize("mode", ["none", "accept", "strict"])
def test_a_user_of_cloud_foundry_sees_what_the_page_shows(
    make_cell: Callable[..., CellUnderTest], tmp_path: Path, mode: str
) -> None:
    closed = {REFUSED.format(*each): CLOSED for each in ENDS}
    instead = {"/root/": re.escape(f"{tmp_path}/"), **({} if mode == "none" else closed)}
    with closing(Shell(make_cell(f"tls.mtls={mode}"), home=tmp_path)) as shell:
        shown, whole = blocks(PAGE, test=THIS), mode == "strict"
        assert shell.play(*(shown if whole else shown[:-FROM_OUTSIDE]), instead=instead) == (33 if whole else 23)
