"""What an instance's processes find in their environment, on a real cell: whichever app was there first."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.containers import Attach
from tests.testlib.documents import blocks, steps
from tests.testlib.instance import Instance
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

WEB, DB = "acme/shop/web", "acme/shop/db"
SCOPE = "policies:\n- {from: same-space, to: acme/shop/*, tcp: any}\n"
DB_IS_AT = ("WARP_IST_db", "db.shop.acme.cell.internal")
RESOLV_CONF = "nameserver 169.254.0.2\nsearch shop.acme.cell.internal acme.cell.internal\noptions ndots:2 edns0\n"


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("service_env_prefixes=[WARP_IST_]",)


def parsed(text: str) -> dict[str, str]:
    """KEY=VALUE lines."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def variables(instance: Instance) -> dict[str, str]:
    """Of a command that is run inside now."""
    return parsed(instance.exec("env"))


def of_a_command(cell: CellUnderTest, app: str, *options: str) -> dict[str, str]:
    """What `cellnet run` starts a command with."""
    return parsed(cell.cellnet("run", "--app", app, *options, "--", "env").out)


def test_an_instance_has_an_id_of_its_own_for_as_long_as_it_is_attached(cell: CellUnderTest) -> None:
    one, two = (cell.run_app(WEB, name=name) for name in ("one", "two"))
    first = variables(one)["CF_INSTANCE_GUID"]
    assert UUID(first).version == 4
    assert first == one.environment["CF_INSTANCE_GUID"] != variables(two)["CF_INSTANCE_GUID"]
    cell.kill("agent")
    cell.start()
    assert variables(one)["CF_INSTANCE_GUID"] == first
    one.stop()
    assert variables(cell.run_app(WEB, name="one"))["CF_INSTANCE_GUID"] != first


def test_an_app_that_starts_after_its_neighbour_finds_it(cell: CellUnderTest) -> None:
    cell.policy_file("shop.yaml", SCOPE)
    cell.run_app(DB)
    assert DB_IS_AT in of_a_command(cell, WEB).items()


def test_an_app_that_starts_before_its_neighbour_finds_it_in_its_file_once_that_is_there(cell: CellUnderTest) -> None:
    cell.policy_file("shop.yaml", SCOPE)
    web = cell.run_app(WEB, name="early")
    file = Path(cell.client.get("/v1/attachments/early/environment").text("environment_file"))
    never = "acme/shop/never-seen"
    assert "WARP_IST_never_seen" not in web.environment
    cell.run_app(never)
    eventually(lambda: "WARP_IST_never_seen=never-seen.shop.acme.cell.internal\n" in file.read_text())
    assert variables(web)["WARP_IST_never_seen"] == "never-seen.shop.acme.cell.internal"
    web.stop()
    assert not file.exists()


def test_the_file_follows_a_policy_file_though_all_its_apps_are_known(cell: CellUnderTest) -> None:
    cell.run_app(DB)
    cell.run_app(WEB)
    file = Path(cell.client.get("/v1/attachments/web/environment").text("environment_file"))
    assert "WARP_IST_db=" not in file.read_text()
    cell.policy_file("shop.yaml", f"policies: [{{from: {WEB}, to: {DB}, tcp: 80}}]\n")
    eventually(lambda: "WARP_IST_db=" in file.read_text())
    cell.remove_policy_file("shop.yaml")
    eventually(lambda: "WARP_IST_db=" not in file.read_text())


def test_an_app_that_a_policy_names_or_an_attach_asks_for_is_found_before_it_ever_was_there(cell: CellUnderTest) -> None:
    assert "WARP_IST_acme_data_lake" not in of_a_command(cell, WEB)
    assert of_a_command(cell, WEB, "--service", "acme/data/lake")["WARP_IST_acme_data_lake"] == "lake.data.acme.cell.internal"
    cell.allow(WEB, "acme/data/lake", "tcp/5432")
    assert of_a_command(cell, WEB)["WARP_IST_acme_data_lake"] == "lake.data.acme.cell.internal"


def test_a_command_has_its_containers_resolv_conf(cell: CellUnderTest, attach: Attach) -> None:
    done = cell.cellnet("run", "--app", WEB, "--", "cat", "/etc/resolv.conf")
    assert done.out == RESOLV_CONF
    made = attach(WEB)
    assert made.exec("cat", "/etc/resolv.conf") == RESOLV_CONF
    file = Path(cell.client.get(f"/v1/attachments/{made.name}").at("dns").text("file"))
    assert file.read_text() == RESOLV_CONF
    made.stop()
    assert not file.exists()


def test_an_app_calls_another_by_its_variable_and_by_short_names(cell: CellUnderTest) -> None:
    web, db = cell.run_app(WEB), cell.run_app(DB, port=8080, server=True)
    cell.allow(WEB, DB, "tcp/8080")
    eventually(lambda: web.exec("getent", "hosts", "db", code=None) != "")  # a name leads to what is served
    for host in ("$WARP_IST_db", "db", "db.shop"):
        assert "hello" in web.exec("sh", "-c", f"curl -sS http://{host}:8080/"), host
    assert web.exec("getent", "hosts", "db").split() == [str(db.address), "db.shop.acme.cell.internal"]


def test_a_namespace_of_ip_netns_gets_its_resolv_conf_if_asked_until_it_is_detached(
    cell: CellUnderTest, netns: Callable[[str], Netns]
) -> None:
    place = netns("red")
    file = Path("/etc/netns") / place.name / "resolv.conf"
    was_there = file.parent.parent.exists()
    words = ("attach", "--app", WEB, "--name", "red", "--netns", str(place.path))
    cell.cellnet(*words)
    assert not file.exists()
    cell.cellnet("detach", "red")
    try:
        cell.cellnet(*words, "--netns-resolv-conf")
        seen = subprocess.run(["ip", "netns", "exec", place.name, "cat", "/etc/resolv.conf"], capture_output=True, text=True)
        assert seen.stdout.splitlines()[1:] == RESOLV_CONF.splitlines()
        place.close()  # its owner ends
        eventually(lambda: not file.parent.exists())
    finally:
        shutil.rmtree(file.parent, ignore_errors=True)
        if not was_there:
            file.parent.parent.rmdir()


def test_the_page_for_apps_shows_what_a_user_sees(cell: CellUnderTest) -> None:
    ((command, output),) = (
        step for block in blocks("docs/apps.md", test="tests/cell/containers/test_environment.py") for step in steps(block)
    )
    assert cell.lab.run("sh", "-c", command).out == output


def test_attach_prints_the_environment_that_the_file_has(cell: CellUnderTest, attach: Attach) -> None:
    made = attach(WEB, name="w")
    text = Path(cell.client.get("/v1/attachments/w/environment").text("environment_file")).read_text()
    assert parsed(text) == dict(made.environment)
    assert text.splitlines() == [f"{key}={value}" for key, value in made.environment.items()]
