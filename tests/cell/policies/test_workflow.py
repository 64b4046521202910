"""The user's own workflow, word by word: look for the address, be refused, allow, be answered, delete, be refused."""

import json
import sys
from pathlib import Path

import pytest

from agent.policy.rights.resolve import MOST_RIGHTS
from tests.testlib.cell import CellUnderTest
from tests.testlib.instance import Instance, await_serving
from tests.testlib.node import Connected, Refused

SHOP = "policies:\n- {name: web-to-api, from: acme/shop/web, to: acme/shop/api, tcp: 8080}\n"
PAGE = Path(__file__).parents[3] / "docs/api.md"
REFUSED_CODE = 7  # of curl: "Failed to connect to host"


def python_server(cell: CellUnderTest) -> Instance:
    """`cellnet run --app acme/shop/api --port 8080 -- python3 -m http.server 8080`."""
    made = cell.run_app("acme/shop/api", sys.executable, "-m", "http.server", "8080", port=8080)
    await_serving(made, 8080)
    return made


def curl(web: Instance, api_address: str, *, code: int = 0) -> str:
    return web.exec("curl", "-sv", f"http://{api_address}:8080/", code=code)


@pytest.fixture
def web_and_api(cell: CellUnderTest) -> tuple[Instance, str]:
    """web, and the address of api as its user finds it."""
    python_server(cell)
    web = cell.run_app("acme/shop/web")
    printed = cell.cellnet("exec", "api", "--", "env").out
    found = [line for line in printed.splitlines() if "CF_INSTANCE_INTERNAL_IP" in line]
    return web, found[0].removeprefix("CF_INSTANCE_INTERNAL_IP=")


def test_policy_allow_opens_and_policy_delete_closes(cell: CellUnderTest, web_and_api: tuple[Instance, str]) -> None:
    web, address = web_and_api
    policy = ("acme/shop/web", "acme/shop/api", "tcp/8080")
    assert "Connection refused" in curl(web, address, code=REFUSED_CODE)
    assert cell.cellnet("policy", "check", *policy, code=1).out == "denied\n"
    cell.cellnet("policy", "allow", *policy)
    assert "200 OK" in curl(web, address)
    assert cell.cellnet("policy", "check", *policy).out.startswith("allowed by ")
    cell.cellnet("policy", "delete", *policy)
    assert "Connection refused" in curl(web, address, code=REFUSED_CODE)


def test_a_file_dropped_in_opens_and_its_removal_closes(cell: CellUnderTest, web_and_api: tuple[Instance, str]) -> None:
    web, address = web_and_api
    assert "Connection refused" in curl(web, address, code=REFUSED_CODE)
    path = cell.policy_file("shop.yaml", SHOP)
    assert "200 OK" in curl(web, address)
    checked = cell.cellnet("policy", "check", "acme/shop/web", "acme/shop/api", "tcp/8080")
    assert checked.out == f"allowed by web-to-api ({path}:2)\n"
    cell.remove_policy_file("shop.yaml")
    assert "Connection refused" in curl(web, address, code=REFUSED_CODE)


def test_a_check_that_denies_names_what_allows_the_other_direction(cell: CellUnderTest) -> None:
    path = cell.policy_file("shop.yaml", SHOP)
    said = cell.cellnet("policy", "check", "acme/shop/api", "acme/shop/web", "tcp/8080", code=1).out
    assert said.splitlines()[0] == "denied"
    assert f"web-to-api ({path}:2)" in said


def test_ps_shows_what_runs_and_forgets_what_has_ended(cell: CellUnderTest) -> None:
    api = cell.run_app("acme/shop/api", port=8080, server=True, routes=["api.apps.internal"])
    line = cell.cellnet("ps").out.splitlines()[1].split()
    assert line == ["api", "acme/shop/api", "0", str(api.address), "8080", "api.apps.internal", "ready"]
    api.stop()
    assert len(cell.cellnet("ps").out.splitlines()) == 1


def test_run_returns_the_exit_code_of_its_command(cell: CellUnderTest) -> None:
    for script, code in (("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)):
        cell.cellnet("run", "--app", "acme/shop/job", "--", "sh", "-c", script, code=code)
    said = cell.cellnet("run", "--app", "acme/shop/job", "--", "no-such-command", code=127).err
    assert said.startswith("error: cannot run no-such-command")
    assert cell.attachments() == []


def test_wrong_usage_has_an_exit_code_of_its_own(cell: CellUnderTest) -> None:
    cell.cellnet("ps", "--no-such-option", code=2)
    cell.cellnet("policy", "allow", "acme/shop/web", "acme/shop", "tcp/8080", code=2)
    cell.cellnet("attach", "--app", "acme/shop/web", code=2)


def test_status_is_a_yes_or_no(cell: CellUnderTest) -> None:
    assert cell.cellnet("status").out.startswith("all is well\n")
    cell.kill("envoy")
    said = cell.cellnet("status", code=1).out
    assert "envoy: Envoy is not connected" in said
    cell.cellnet("status", "--wait", "0.3", code=1)
    cell.start(well=False)
    assert cell.cellnet("status", "--wait", "20").out.startswith("all is well\n")


def fields(value: object) -> object:
    """The names of an object's fields, in their order, and of those below."""
    return [(name, fields(below)) for name, below in value.items()] if isinstance(value, dict) else None


def test_the_status_has_the_fields_that_the_page_shows_in_their_order(cell: CellUnderTest) -> None:
    shown = PAGE.read_text().partition("http://cell/v1/status\n")[2].partition("\n")[0]
    cell.run_app("acme/shop/web")  # so that the kernel was changed
    assert fields(cell.status().value) == fields(json.loads(shown))


def test_sync_returns_when_what_is_on_disk_is_enforced(cell: CellUnderTest) -> None:
    web, api = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api", port=8080, server=True)
    path = cell.lab.policies / "shop.yaml"
    for _ in range(10):
        path.write_text(SHOP)
        cell.cellnet("sync")
        assert web.connect(api, 8080) is Connected
        path.unlink()
        cell.cellnet("sync")
        assert web.connect(api, 8080) is Refused


def test_sync_names_the_file_that_cannot_be_enforced(cell: CellUnderTest) -> None:
    cell.policy_file("bad.yaml", "policies: [oops]\n", sync=False)
    said = cell.cellnet("sync", code=1).err
    assert said.startswith("error: not all is enforced")
    assert f"{cell.lab.policies}/bad.yaml:1:12" in said
    cell.remove_policy_file("bad.yaml", sync=False)
    cell.cellnet("sync")


def test_sync_names_the_policy_that_would_be_too_many_rights(cell: CellUnderTest) -> None:
    web, api = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api", port=8080, server=True)
    crowd = ", ".join(["acme/shop/web", *(f"acme/shop/a{number}" for number in range(MOST_RIGHTS))])
    rule = "{{name: {}, from: [{}], to: acme/shop/api, tcp: {}}}".format
    cell.policy_file("a.yaml", f"policies: [{rule('crowd', crowd, 8080)}, {rule('web', 'acme/shop/web', 9000)}]\n", sync=False)
    assert "rights to reach acme/shop/api: not in force for it are crowd" in cell.cellnet("sync", code=1).err
    api.listen(9000)
    assert [web.connect(api, port) for port in (8080, 9000)] == [Refused, Connected]
    cell.remove_policy_file("a.yaml")


def test_a_config_that_changes_under_the_agent_is_a_line_in_the_status(cell: CellUnderTest) -> None:
    path = cell.lab.policies.parent / "agent.yaml"
    before = path.read_text()
    path.write_text(f"{before}tls: {{leaf_lifetime: 12h}}\n")
    said = cell.cellnet("status", code=1).out
    assert f"config: {path} differs from what runs: tls.leaf_lifetime" in said
    path.write_text(before)
    assert cell.status().flag("ok")


def test_a_file_that_others_could_write_is_a_line_in_the_status_with_what_mends_it(cell: CellUnderTest) -> None:
    certificate = cell.lab.root / "var/lib/cellnet/ca/cell.crt"
    for path in (cell.lab.policies.parent / "agent.yaml", certificate):
        path.chmod(0o666)
        said = cell.cellnet("status", code=1).out
        assert f"{path} can be written by group or others (mode 0666)" in said
        assert f"hint: chown root {path} && chmod go-w {path}" in said
        path.chmod(0o644)
        assert cell.status().flag("ok")
