"""An instance's files as the user of its app sees them: with `run --user`, and with `attach --key-owner` for engines."""

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach
from tests.testlib.documents import blocks, steps
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

pytestmark = pytest.mark.release

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = f"policies:\n- {{from: {WEB}, to: {API}, tcp: 61443}}\n"
CALL = """
curl -sS --capath "$CF_SYSTEM_CERT_PATH" --cert "$CF_INSTANCE_CERT" --key "$CF_INSTANCE_KEY" https://{api}:61443/
curl -sS --cacert "$CF_INSTANCE_CA" --cert "$CF_INSTANCE_CERT" --key "$CF_INSTANCE_KEY" https://{api}:61443/
"""


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.leaf_lifetime=6s",)  # renewed every 3 s or so


def test_the_session_of_the_page_for_apps_is_what_a_user_sees(cell: CellUnderTest) -> None:
    (session,) = blocks("docs/apps.md", test="tests/cell/containers/test_app_user.py")
    for command, output in steps(session):
        assert cell.lab.run("sh", "-c", command).out == output, command


def test_a_command_of_another_user_calls_with_its_identity(cell: CellUnderTest) -> None:
    api = cell.run_app(API, port=8080, server=True)
    cell.policy_file("shop.yaml", POLICY)
    done = cell.cellnet("run", "--app", WEB, "--user", "www-data", "--", "sh", "-ec", CALL.format(api=api.address))
    assert done.out.count("hello 10.255.1.") == 2


def test_a_key_is_for_its_owner_alone_over_renewals_and_a_restart(
    cell: CellUnderTest, netns: Callable[[str], Netns], attach: Attach
) -> None:
    user, group = netns("user"), netns("group")
    for place, name, owner in ((user, "user", "1234"), (group, "group", "1234:4321")):
        cell.cellnet("attach", "--app", WEB, "--name", name, "--netns", str(place.path), "--key-owner", owner)
    keys = [
        Path(cell.client.get(f"/v1/attachments/{name}").at("environment").text("CF_INSTANCE_KEY")) for name in ("user", "group")
    ]

    def readers(key: Path) -> list[str]:
        """Uid and gid of those that can read it, of a few."""
        ids = ((1234, 1), (1, 4321), (1, 1))
        tried = {f"{uid}:{gid}": as_user(cell, uid, gid, "cat", str(key)) for uid, gid in ids}
        return [who for who, read in tried.items() if read]

    def as_they_should_be() -> bool:
        return [readers(key) for key in keys] == [["1234:1"], ["1234:1", "1:4321"]]

    assert as_they_should_be()
    assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600, 0o640]
    first = [key.read_bytes() for key in keys]
    eventually(lambda: not {key.read_bytes() for key in keys} & set(first))
    assert as_they_should_be()
    cell.kill("agent")
    cell.start()
    second = [key.read_bytes() for key in keys]
    eventually(lambda: not {key.read_bytes() for key in keys} & set(second))
    assert as_they_should_be()
    for name in ("user", "group"):
        cell.cellnet("detach", name)


def as_user(cell: CellUnderTest, uid: int, gid: int, *argv: str) -> bool:
    """Whether a user can do this."""
    return cell.lab.run("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--", *argv).code == 0
