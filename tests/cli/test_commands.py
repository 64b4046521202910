"""The command line against an agent on memory: what is printed, on which stream, with which exit code."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.cli.main import COMMANDS
from agent.errors import Conflict
from agent.model.policy import AppPolicy, Origin, Ports
from agent.model.status import Problem
from tests.cli.conftest import Cli, Done
from tests.testlib.fakes.cell import FakeCell, an_app, serving

CELLNET = [sys.executable, "-m", "agent"]


WEB_TO_API = AppPolicy(
    "web-to-api", (an_app("acme/shop/web"),), an_app("acme/shop/api"), tcp=(Ports(8080, 8080), Ports(9000, 9010)),
    origin=Origin("/etc/cellnet/policies.d/shop.yaml", 3, 5),
)  # fmt: skip


@pytest.mark.usefixtures("agent")
def test_ps_is_a_tidy_table(cellnet: Cli) -> None:
    for name in ("api", "a-longer-name"):
        cellnet("attach", "--app", "acme/shop/api", "--netns", "/run/netns/x", "--name", name, "--port", "80", "--port", "81")
    assert cellnet("ps").out == (
        "NAME           APP            INSTANCE  ADDRESS     PORTS   ROUTES  TLS\n"
        "a-longer-name  acme/shop/api  0         10.255.1.3  80, 81  -       ready\n"
        "api            acme/shop/api  0         10.255.1.2  80, 81  -       ready\n"
    )
    assert [each["name"] for each in json.loads(cellnet("ps", "--json").out)] == ["a-longer-name", "api"]


@pytest.mark.usefixtures("agent")
def test_names_are_listed_as_people_count(cellnet: Cli) -> None:
    for name in ("app-10", "app-2", "app", "app-1"):
        cellnet("attach", "--app", "acme/shop/app", "--netns", "/run/netns/x", "--name", name)
    listed = [line.split()[0] for line in cellnet("ps").out.splitlines()[1:]]
    assert listed == ["app", "app-1", "app-2", "app-10"]


def test_without_an_agent_the_hint_is_how_to_start_one(cellnet: Cli, tmp_path: Path) -> None:
    words = (
        f"error: no agent answers at {tmp_path}/run/cellnet/agent.sock; hint: 'sudo cellnet --root {tmp_path} up' starts one"
    )
    for command in (["ps"], ["status"], ["sync"], ["policy", "list"], ["ca", "show"], ["detach", "w"], ["exec", "w", "env"]):
        done = cellnet(*command)
        assert (done.code, done.out) == (1, "")
        assert done.err == f"{words}\n"


@pytest.mark.parametrize("command", [["agent"], ["envoy"], ["up"], ["ps"], ["ca", "init"]])
def test_a_config_that_is_named_must_be_there(cellnet: Cli, tmp_path: Path, command: list[str]) -> None:
    done = cellnet("--config", str(tmp_path / "nope.yaml"), *command)
    words = f"error: cannot read {tmp_path}/nope.yaml: No such file or directory; hint: name one that is there\n"
    assert (done.code, done.out, done.err) == (1, "", words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], "No such option"),
        (["stauts"], "Did you mean 'status'?"),
        (["ps", "extra"], "unexpected extra argument"),
        (["attach", "--netns", "/x"], "--app"),
        (["run", "--app", "a/b/c"], "CMD"),
        (["exec", "web", "--"], "CMD"),
        (["policy", "delete", "a/b/c", "a/b/d"], "Give a name"),
        (["policy", "frobnicate"], "No such command"),
        (["attach", "--app", "a/b", "--netns", "/x"], "'a/b' is not an app's name; hint: write org/space/app"),
        (["attach", "--app", "a/b/c", "--netns", "/x", "--port", "70000"], "port 70000"),
        (
            ["attach", "--app", "a/b/c", "--netns", "/x", "--key-owner", "app"],
            "'app' is not UID or UID:GID; hint: numbers of this",
        ),
        (["policy", "check", "a/b/c", "a/b/d", "8080"], "'8080' is not a protocol and a port"),
    ],
)
@pytest.mark.usefixtures("agent")
def test_wrong_usage_is_one_line_and_exits_2(cellnet: Cli, arguments: list[str], words: str) -> None:
    done = cellnet(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert words in done.err
    assert "; hint: " in done.err


@pytest.mark.usefixtures("agent")
def test_a_refusal_of_the_agent_is_shown_with_its_hint_and_exits_1(cellnet: Cli, cell: FakeCell) -> None:
    cell.fails = Conflict("'web' is attached", hint="detach it first")
    done = cellnet("attach", "--app", "acme/shop/web", "--netns", "/run/netns/x")
    assert done == Done(1, "", "error: 'web' is attached; hint: detach it first\n")


@pytest.mark.usefixtures("agent")
def test_policies_are_allowed_listed_checked_and_deleted_by_name(cellnet: Cli, cell: FakeCell) -> None:
    cell.rules.append(WEB_TO_API)
    assert cellnet("policy", "allow", "acme/shop/web", "acme/shop/db", "tcp/5432", "udp/53").out == "allowed as web-to-db\n"
    assert cellnet("policy", "list").out == (
        "NAME        FROM           TO             PORTS                    ORIGIN\n"
        "web-to-api  acme/shop/web  acme/shop/api  tcp/8080, tcp/9000-9010  /etc/cellnet/policies.d/shop.yaml:3\n"
        "web-to-db   acme/shop/web  acme/shop/db   tcp/5432, udp/53         store\n"
    )
    allowed = "allowed by web-to-api (/etc/cellnet/policies.d/shop.yaml:3)\n"
    assert cellnet("policy", "check", "acme/shop/web", "acme/shop/api", "tcp/8080") == Done(0, allowed, "")
    assert cellnet("policy", "check", "acme/shop/web", "acme/shop/api", "tcp/8081") == Done(
        1, "denied\nacme/shop/web may reach acme/shop/api on tcp/8080, tcp/9000-9010\n", ""
    )
    assert cellnet("policy", "check", "acme/shop/web", "acme/shop/other", "tcp/8081") == Done(
        1, "denied\n", "warning: nothing of acme/shop/other runs here or is named\n"
    )
    assert cellnet("policy", "check", "acme/shop/api", "acme/shop/web", "tcp/8080") == Done(
        1,
        "denied\nthe other direction, acme/shop/web to acme/shop/api, is allowed by web-to-api "
        "(/etc/cellnet/policies.d/shop.yaml:3)\n",
        "",
    )
    assert cellnet("policy", "delete", "web-to-db") == Done(0, "deleted web-to-db\n", "")
    assert cellnet("policy", "delete", "web-to-db").code == 1


@pytest.mark.usefixtures("agent")
def test_a_policy_is_deleted_with_the_words_that_allowed_it(cellnet: Cli, cell: FakeCell) -> None:
    cell.rules.append(WEB_TO_API)
    words = ("acme/shop/web", "acme/shop/api", "udp/53", "tcp/8080")
    cellnet("policy", "allow", *words, "--name", "mine")
    assert cellnet("policy", "delete", *words[:3]).code == 1
    assert cellnet("policy", "delete", *words[:2], "tcp/8080", "tcp/9000-9010").code == 1, "a file's policy is not the store's"
    assert cellnet("policy", "delete", *words) == Done(0, "deleted mine\n", "")
    assert cell.rules == [WEB_TO_API]


@pytest.mark.usefixtures("agent")
def test_a_wrong_document_is_a_failure_and_not_wrong_usage(cellnet: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("polices: []\n")
    done = cellnet("policy", "apply", "-f", str(tmp_path / "bad.yaml"))
    assert done.code == 1
    assert done.err == (
        f"error: {tmp_path}/bad.yaml:1:1: unknown key 'polices'\npolices: []\n^\nhint: did you mean 'policies'?\n"
        f"error: {tmp_path}/bad.yaml:1:1: `policies:` is missing\npolices: []\n^\nhint: `policies: []` means none\n"
    )
    assert cellnet("policy", "validate", str(tmp_path / "bad.yaml")) == done
    (tmp_path / "good.yaml").write_text("policies: []\n")
    assert cellnet("policy", "apply", "-f", str(tmp_path / "good.yaml")) == Done(0, "applied from-a-document\n", "")
    assert cellnet("policy", "apply", "-f", str(tmp_path / "none.yaml")).code == 1


def test_validate_shows_every_mistake_with_its_line_and_a_caret(cellnet: Cli, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("policies:\n  - {from: acme/shop/web, to: acme/shop/api, tcp: 8080}\n")
    bad.write_text("policies:\n  - from: acme/shop/web\n    to: acme/shop/api\n    tpc: 8080\n  - from: web\n")
    assert cellnet("policy", "validate", str(good)) == Done(0, f"{good}: 1 policy\n", "")
    done = cellnet("policy", "validate", str(good), str(bad))
    assert (done.code, done.out) == (1, f"{good}: 1 policy\n")
    assert f"error: {bad}:4:5: " in done.err
    assert "\n    tpc: 8080\n    ^\n" in done.err
    assert f"error: {bad}:5:" in done.err
    told = json.loads(cellnet("policy", "validate", "--json", str(bad)).out)
    assert told["ok"] is False
    assert {4, 5} <= {each["line"] for each in told["files"][0]["problems"]}
    assert "cannot be read" in cellnet("policy", "validate", str(tmp_path / "none.yaml")).err


def test_validate_warns_of_what_two_files_of_a_folder_say(cellnet: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("policies:\n  - {name: one, from: same-space, to: acme/shop/*, tcp: any}\n")
    (tmp_path / "b.yaml").write_text("policies:\n  - {name: one, from: acme/shop/web, to: acme/shop/api, tcp: 80}\n")
    (tmp_path / ".c.yaml").write_text("nothing")
    done = cellnet("policy", "validate", str(tmp_path))
    first, second = (tmp_path / name for name in ("a.yaml", "b.yaml"))
    assert (done.code, done.out) == (0, f"{first}: 1 policy\n{second}: 1 policy\n")
    assert done.err.splitlines() == [
        f"warning: {first}:2:5: one is the name of another policy, too ({second}:2)",
        f"warning: {second}:2:5: one is the name of another policy, too ({first}:2)",
        f"warning: {second}:2:5: one allows nothing that one ({first}:2) does not allow",
    ]
    assert cellnet("policy", "validate", "--strict", str(tmp_path)).code == 1
    assert cellnet("policy", "validate", str(second), "--strict") == Done(0, f"{second}: 1 policy\n", "")
    found = json.loads(cellnet("policy", "validate", "--json", str(tmp_path)).out)
    assert [(each["file"], each["line"], each["column"]) for each in found["warnings"]] == [
        (str(each), 2, 5) for each in (first, second, second)
    ]


def test_validate_warns_of_a_name_that_the_agent_does_not_read(cellnet: Cli, tmp_path: Path) -> None:
    path = tmp_path / "shop.yml"
    path.write_text("policies: []\n")
    done = cellnet("policy", "validate", str(path))
    assert (done.code, done.out) == (0, f"{path}: 0 policies\n")
    assert done.err == f"warning: {path}: the agent reads only files whose name ends in .yaml; hint: rename it to shop.yaml\n"


@pytest.mark.parametrize(("mode", "is_warned"), [("none", False), ("accept", True), ("strict", True)])
def test_validate_says_what_mutual_tls_leaves_in_plain(cellnet: Cli, tmp_path: Path, mode: str, is_warned: bool) -> None:
    config, path = tmp_path / "etc/cellnet/agent.yaml", tmp_path / "shop.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"tls: {{mtls: {mode}}}\n")
    ends = "from: acme/shop/web, to: acme/shop/api"
    path.write_text(f"policies:\n  - {{{ends}, udp: 53}}\n  - {{{ends}, tcp: 80}}\n  - {{{ends}, tcp: 81, udp: 54}}\n")
    said = "2 policies open UDP, which mutual TLS leaves in plain, as it does published ports and the host's own calls"
    warning = f"warning: {path}: {said}\n" if is_warned else ""
    assert cellnet("policy", "validate", str(path)) == Done(0, f"{path}: 3 policies\n", warning)


@pytest.mark.parametrize(("mode", "is_warned"), [("none", False), ("strict", True)])
def test_validate_says_what_mutual_tls_leaves_in_plain_of_the_outside(
    cellnet: Cli, tmp_path: Path, mode: str, is_warned: bool
) -> None:
    config, path = tmp_path / "etc/cellnet/agent.yaml", tmp_path / "shop.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"tls: {{mtls: {mode}, port: 7443}}\n")
    ends, other = (f"from: {{cidr: 0.0.0.0/0}}, to: acme/shop/{app}" for app in ("api", "db"))
    path.write_text(
        f"policies: [{{{other}, tcp: 7443}}, {{{ends}, tcp: [80, 7443]}}, {{{ends}, udp: 53}}, {{{ends}, icmp: echo}}]\n"
    )
    said = "2 policies let the outside in to ports that mutual TLS leaves in plain; what is published as `tls` is encrypted"
    warning = f"warning: {path}: {said}\n" if is_warned else ""
    assert cellnet("policy", "validate", str(path)) == Done(0, f"{path}: 4 policies\n", warning)


def test_the_schema_is_json(cellnet: Cli) -> None:
    assert json.loads(cellnet("policy", "schema").out)["$schema"]


@pytest.mark.usefixtures("agent")
def test_status_fits_one_screen_and_exits_1_while_anything_is_wrong(cellnet: Cli, cell: FakeCell) -> None:
    done = cellnet("status")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "all is well"
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    cell.problems.append(Problem("policies", "shop.yaml:3:5: bad\n  from: x\n        ^", "mend the file"))
    done = cellnet("status")
    assert done.code == 1
    assert done.out.endswith("\npolicies: shop.yaml:3:5: bad\n    from: x\n          ^\n  hint: mend the file\n")
    assert json.loads(cellnet("status", "--json").out)["ok"] is False


def test_status_waits_for_an_agent_that_is_still_to_come(cellnet: Cli, cell: FakeCell, tmp_path: Path) -> None:
    cell.problems.append(Problem("envoy", "not connected"))
    found: list[Done] = []
    caller = threading.Thread(target=lambda: found.append(cellnet("status", "--wait", "30")))
    caller.start()
    with serving(cell, tmp_path / "run/cellnet/agent.sock"):
        threading.Timer(0.2, cell.problems.clear).start()
        caller.join()
    assert found[0].code == 0


@pytest.mark.usefixtures("agent")
def test_sync_names_what_is_missing(cellnet: Cli, cell: FakeCell) -> None:
    assert cellnet("sync") == Done(0, "", "")
    cell.missing = ("shop.yaml", "the kernel")
    done = cellnet("sync", "--timeout", "1")
    assert done == Done(1, "", "error: not all is enforced: shop.yaml, the kernel; hint: see 'cellnet status'\n")


@pytest.mark.usefixtures("agent")
def test_the_trust_bundle_is_printed_alone_with_pem(cellnet: Cli) -> None:
    assert cellnet("ca", "show", "--pem").out == "-----BEGIN CERTIFICATE-----\nabcd\n-----END CERTIFICATE-----\n"
    assert "CN=cell" in cellnet("ca", "show").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(cellnet: Cli, shell: str) -> None:
    done = cellnet("completion", shell)
    assert done.code == 0
    assert "_CELLNET_COMPLETE" in done.out


def test_names_are_completed_from_the_agent(agent: Path, cellnet: Cli) -> None:
    cellnet("attach", "--app", "acme/shop/api", "--netns", "/run/netns/x")
    words = {"_CELLNET_COMPLETE": "bash_complete", "COMP_WORDS": "cellnet exec a", "COMP_CWORD": "2"}
    done = subprocess.run(CELLNET, env={**os.environ, **words, "CELLNET_ROOT": str(agent)}, capture_output=True, text=True)
    assert done.stdout == "plain,api\n"


@pytest.mark.usefixtures("agent")
def test_only_the_stores_policies_are_completed_for_delete_and_in_the_order_of_their_numbers(
    agent: Path, cellnet: Cli, cell: FakeCell
) -> None:
    cell.rules.append(WEB_TO_API)
    for name in ("web-10", "web-2", "web"):
        cellnet("policy", "allow", "acme/shop/web", "acme/shop/db", "tcp/5432", "--name", name)
    words = {"_CELLNET_COMPLETE": "bash_complete", "COMP_WORDS": "cellnet policy delete w", "COMP_CWORD": "3"}
    done = subprocess.run(CELLNET, env={**os.environ, **words, "CELLNET_ROOT": str(agent)}, capture_output=True, text=True)
    assert done.stdout == "plain,web\nplain,web-2\nplain,web-10\n"
    listed = [line.split()[0] for line in cellnet("policy", "list").out.splitlines()]
    assert listed == ["NAME", "web-to-api", "web", "web-2", "web-10"]


def test_output_whose_reader_has_gone_is_no_traceback(agent: Path) -> None:
    shell = f"{' '.join(CELLNET)} --root {agent} status --json | true"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert done.stderr == ""


def test_errors_are_coloured_on_a_terminal_only(tmp_path: Path) -> None:
    command = f"{' '.join(CELLNET)} --root {tmp_path} ps"
    plain = subprocess.run(command.split(), capture_output=True, text=True)
    assert "\x1b" not in plain.stderr
    terminal = {**os.environ, "TERM": "xterm"}
    argv = ["script", "-qec", command, "/dev/null"]
    seen = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=terminal)
    assert "\x1b[31m" in seen.stdout


@pytest.mark.parametrize("module", ["click", "click.core", "agent.cli.containers.attachments", "agent.client.connection"])
def test_an_interrupt_during_an_import_is_quiet(agent: Path, module: str) -> None:
    """The module's source stands for a Ctrl-C at this moment."""
    code = (
        "import os, signal, sys, importlib.abc\n"
        "class Interrupting(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from agent.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--root", str(agent), "ps"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


@pytest.mark.parametrize("completes", [True, False])
def test_an_interrupt_while_the_agent_does_not_answer_is_quiet(tmp_path: Path, completes: bool) -> None:
    (tmp_path / "run/cellnet").mkdir(parents=True)
    words = f"cellnet --root {tmp_path} detach "
    completion = {"_CELLNET_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"} if completes else {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "run/cellnet/agent.sock"))
        listener.listen()
        entry = [str(Path(sys.executable).with_name("cellnet")), "--root", str(tmp_path), "ps"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(entry, env={**os.environ, **completion}, text=True, **pipes) as asking:  # type: ignore[call-overload]
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                asking.send_signal(signal.SIGINT)
                out, err = asking.communicate(timeout=30)
    assert (asking.returncode, out, err.strip()) == (130, "", "")


PACKAGES = ("pydantic", "grpc", "aiohttp", "cryptography", "yaml", "asyncio", "structlog", "ssl")
HEAVY = (*PACKAGES, "http.client", "email", "urllib.request", "difflib", "subprocess", "importlib.util", "host.durable")
CHECK = ["policy", "check", "acme/shop/web", "acme/shop/api", "tcp/8080"]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_no_package_besides_clicks(agent: Path, arguments: list[str]) -> None:
    assert loaded(agent, arguments, PACKAGES) == ["0"]


@pytest.mark.parametrize("arguments", [["ps"], ["status"], CHECK, ["run", "--help"], ["policy", "allow", "--help"]])
def test_a_command_imports_nothing_that_takes_longer_than_itself(agent: Path, cell: FakeCell, arguments: list[str]) -> None:
    cell.rules.append(WEB_TO_API)
    assert loaded(agent, arguments, HEAVY) == ["0"]


def test_exec_imports_nothing_that_takes_longer_than_itself(agent: Path) -> None:
    assert loaded(agent, ["exec", "nothing", "--", "true"], HEAVY) == ["1"]


def loaded(agent: Path, arguments: list[str], unwanted: Sequence[str]) -> list[str]:
    """A command's exit code, and what it has imported of `unwanted`."""
    code = (
        "import sys; from agent.cli.main import run; code = run(sys.argv[1:]);"
        f"print('LOADED', code, *[name for name in {unwanted} if name in sys.modules])"
    )
    argv = [sys.executable, "-c", code, "--root", str(agent), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_every_command_explains_itself(cellnet: Cli) -> None:
    for name in COMMANDS:
        if name != "lab":
            done = cellnet(name, "--help")
            assert (done.code, done.err) == (0, "")
            assert done.out.startswith(f"Usage: cellnet {name}")


def test_the_version_is_the_packages(cellnet: Cli) -> None:
    assert cellnet("--version").out.startswith("cellnet 0.")
