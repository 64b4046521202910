"""The CNI plugin as engines call it: the real program, a real agent, real namespaces."""

import ast
import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.testlib.cell import CellUnderTest
from tests.testlib.engines.cni import Engine, PluginError, address_in
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually

SOURCE = Path(__file__).parents[2] / "agent/cni/plugin.py"
MakeNetns = Callable[[str], Netns]


@pytest.fixture
def engine(cell: CellUnderTest) -> Engine:
    return Engine(cell.lab.root / "run/cellnet/agent.sock")


def refusal(call: Callable[[], object]) -> PluginError:
    with pytest.raises(PluginError) as caught:
        call()
    return caught.value


def test_it_imports_nothing_but_the_standard_library() -> None:
    imports = [node for node in ast.walk(ast.parse(SOURCE.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {each.module or "" for each in imports if isinstance(each, ast.ImportFrom)}
    names |= {alias.name for each in imports if isinstance(each, ast.Import) for alias in each.names}
    assert {each.partition(".")[0] for each in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_an_add_answers_in_the_words_of_its_version(
    cell: CellUnderTest, engine: Engine, netns: MakeNetns, version: str
) -> None:
    place = netns("c")
    got = replace(engine, version=version).add("box", place.path, name="web")
    found = cell.client.get("/v1/attachments/web")
    own = {"address": f"{found.text('address')}/32", "gateway": "169.254.0.1", "interface": 1}
    assert got["cniVersion"] == version
    assert got["ips"] == [{**own, "version": "4"} if version < "1" else own]
    assert got["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.0.1"}]
    dns = found.at("dns")
    assert got["dns"] == {each: list(dns.texts(each)) for each in ("nameservers", "search", "options")}
    assert got["dns"]["nameservers"] == ["169.254.0.2"]
    near, far = got["interfaces"]
    assert json.loads(place.run("ip", "-j", "link", "show", "eth0"))[0]["address"] == far["mac"]
    assert json.loads(cell.host.run("ip", "-j", "link", "show", near["name"]))[0]["address"] == near["mac"]
    assert (far["name"], far["sandbox"]) == ("eth0", str(place.path))
    replace(engine, version=version).call("DEL", "box", netns=place.path)
    assert cell.attachments() == []


def test_a_del_may_come_again_late_and_without_a_namespace(cell: CellUnderTest, engine: Engine, netns: MakeNetns) -> None:
    engine.add("box", netns("c").path, name="web")
    for _ in range(2):
        assert engine.call("DEL", "box") is None
        assert cell.attachments() == []
    assert engine.call("DEL", "never-seen", netns="/run/netns/gone") is None


def test_a_second_add_changes_nothing_and_one_elsewhere_replaces_the_first(
    cell: CellUnderTest, engine: Engine, netns: MakeNetns
) -> None:
    first, second = netns("a"), netns("b")
    answers = [engine.add("box", first.path, name="web") for _ in range(2)]
    assert answers[0] == answers[1]
    engine.add("box", second.path, name="web")
    assert cell.attachments() == ["web"]
    assert "eth0" not in first.run("ip", "-br", "link")
    assert "eth0" in second.run("ip", "-br", "link")
    engine.call("DEL", "box", netns=second.path)
    assert cell.attachments() == []


def test_a_late_del_of_one_container_leaves_another_of_the_same_name(
    cell: CellUnderTest, engine: Engine, netns: MakeNetns
) -> None:
    gone = netns("a")
    engine.add("old", gone.path, name="web")
    gone.close()
    eventually(lambda: cell.attachments() == [])  # swept: its engine has said nothing
    engine.add("new", netns("b").path, name="web")
    engine.call("DEL", "old")
    assert cell.attachments() == ["web"]
    engine.add("other", netns("c").path, name="web")
    assert cell.attachments() == ["web", "web-1"]


def test_a_restarted_agent_knows_containers_by_their_ids(cell: CellUnderTest, engine: Engine, netns: MakeNetns) -> None:
    place = netns("c")
    told = engine.add("box", place.path, name="web")
    engine.add("box", netns("d").path, name="second", config={"name": "other"}, interface="eth1")
    cell.kill("agent", again=True)
    eventually(lambda: cell.wait_well().flag("ok"))
    assert engine.add("box", place.path, name="web") == told
    assert engine.call("CHECK", "box", netns=place.path, config={"prevResult": told}) is None
    engine.call("DEL", "box")
    assert cell.attachments() == ["second"]
    engine.call("DEL", "box", interface="eth1")
    assert cell.attachments() == []


def test_a_check_finds_what_is_not_as_the_add_has_answered(cell: CellUnderTest, engine: Engine, netns: MakeNetns) -> None:
    place = netns("c")
    told = engine.add("box", place.path)
    assert engine.call("CHECK", "box", netns=place.path, config={"prevResult": told}) is None
    other = {**told, "ips": [{"address": "10.255.1.250/32"}]}
    assert (
        "which is not what ADD has answered"
        in refusal(lambda: engine.call("CHECK", "box", netns=place.path, config={"prevResult": other})).what
    )
    place.run("ip", "link", "set", "eth0", "down")
    assert "eth0" in refusal(lambda: engine.call("CHECK", "box", netns=place.path, config={"prevResult": told})).what
    engine.call("DEL", "box")
    assert refusal(lambda: engine.call("CHECK", "box", netns=place.path, config={"prevResult": told})).code == 100


def test_what_an_engine_no_longer_has_is_collected_on_its_network_alone(
    cell: CellUnderTest, engine: Engine, netns: MakeNetns
) -> None:
    newest = replace(engine, version="1.1.0")
    for container in ("kept", "lost"):
        newest.add(container, netns(container).path)
    newest.add("elsewhere", netns("e").path, name="elsewhere")
    valid: dict[str, object] = {"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]}
    newest.call("GC", config={**valid, "name": "another"})
    assert cell.attachments() == ["elsewhere", "kept", "lost"]
    newest.call("GC", config=valid)
    assert cell.attachments() == ["kept"]
    assert refusal(lambda: engine.call("GC")).code == 1  # 1.0.0 has none


def test_the_status_says_whether_an_add_would_work(cell: CellUnderTest, engine: Engine) -> None:
    newest = replace(engine, version="1.1.0")
    assert newest.call("STATUS") is None
    cell.kill("envoy")
    assert refusal(lambda: newest.call("STATUS")).code == 50
    cell.kill("agent")
    found = refusal(lambda: newest.call("STATUS"))
    assert (found.code, found.hint) == (50, "hint: see whether cellnet-agent.service, or 'cellnet up', runs, and its log")


def test_20_containers_at_once_get_20_addresses(cell: CellUnderTest, engine: Engine, netns: MakeNetns) -> None:
    places = [netns(f"n{number}") for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: engine.add(f"box{number}", places[number].path, name="web"), range(20)))
    assert len(set(map(address_in, answers))) == 20
    engine.call("DEL", "box7")
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: engine.call("DEL", f"box{number}"), range(20)))
    assert cell.attachments() == []


@pytest.mark.parametrize(
    ("command", "config", "code", "what", "hint"),
    [
        ("ADD", {"cniVersion": "0.1.0"}, 1, "cniVersion 0.1.0 is none of cellnet's", "0.3.0, 0.3.1"),
        ("ADD", {"ap": "acme/shop/web"}, 7, "unknown key 'ap'", "known are app, ports"),
        ("ADD", {"app": "web"}, 7, "'web'", "acme/shop/web"),
        ("ADD", {"app": "acme/shop/web", "ports": [61443]}, 7, "port 61443 is cellnet's own", "have the app listen"),
        ("ADD", {"runtimeConfig": {"ips": ["10.255.1.9/24"]}}, 7, "asks for an address", "leave it out"),
        ("ADD", {"app": "acme/shop/web", "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 61443}]}}, 7,
         "port 61443 is cellnet's own", "1:tls"),
        ("CHECK", {}, 7, "without a prevResult", "ADD has answered"),
        ("DANCE", {}, 4, "CNI_COMMAND 'DANCE'", "VERSION, ADD"),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_with_what_and_hint(
    engine: Engine, netns: MakeNetns, command: str, config: dict[str, object], code: int, what: str, hint: str
) -> None:
    found = refusal(lambda: engine.call(command, "box", netns=netns("c").path, config=config))
    assert found.code == code
    assert what in found.what
    assert hint in found.hint


def test_what_is_missing_or_no_json_is_refused_in_the_specifications_code(engine: Engine, netns: MakeNetns) -> None:
    assert refusal(lambda: engine.call("ADD", netns=netns("c").path)).code == 4
    assert refusal(lambda: engine.call("ADD", "box", config={"app": "acme/shop/web"})).code == 4
    assert refusal(lambda: engine.add("box", "/run/netns/none-of-that-name")).code == 102
    done = subprocess.run([engine.plugin], input=b"{", env={"CNI_COMMAND": "ADD"}, capture_output=True)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 6)


def test_a_version_is_answered_without_an_agent(tmp_path: Path) -> None:
    got = Engine(tmp_path / "none").call("VERSION")
    assert got == {"cniVersion": "1.0.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


def test_an_agent_that_hangs_is_given_up(tmp_path: Path) -> None:
    hasty = tmp_path / "cellnet-cni"
    hasty.write_text(SOURCE.read_text().replace("SECONDS = 25", "SECONDS = 1"))
    hasty.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "agent.sock"))
        deaf.listen()
        found = refusal(lambda: Engine(tmp_path / "agent.sock", plugin=hasty).add("box", "/run/netns/x"))
    assert (found.code, found.what) == (11, "the agent of cellnet did not answer within 1 s")


@pytest.mark.parametrize("hides_run", [False, True], ids=["as a user", "as root of a user namespace that hides /run"])
def test_a_user_who_is_not_root_reads_that_rootless_engines_cannot_use_it(
    engine: Engine, netns: MakeNetns, hides_run: bool
) -> None:
    inside = ["unshare", "--user", "--map-root-user"] if hides_run else []
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *inside, "/usr/bin/python3", "-IS", "-"]
    path = "/run/nothing-is-here" if hides_run else str(engine.socket)
    config = {"cniVersion": "1.0.0", "name": "cellnet", "app": "acme/shop/web", "socket": path}
    script = SOURCE.read_text().replace("sys.stdin.buffer.read()", repr(json.dumps(config).encode()))
    environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "box", "CNI_NETNS": str(netns("c").path), "CNI_IFNAME": "eth0"}
    done = subprocess.run(words, input=script.encode(), env={**environment, "PATH": "/usr/bin"}, capture_output=True)
    assert json.loads(done.stdout)["details"] == "hint: cellnet needs an engine that runs as root; a rootless one cannot use it"


def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cellnet_cni", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_it_reads_and_writes_json_as_the_standard_library_does(value: object) -> None:
    assert plugin().written(value) == json.dumps(value)
    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False), f"\n {json.dumps(value)}\t\r\n"):
        assert plugin().parsed(text.encode(errors="surrogatepass")) == json.loads(text)


@pytest.mark.parametrize("text", [b"{", b"", b"{} {}", b"nul", b'{"a": 1,}', b"\xff", b'"\n"', b"[1 2]"])
def test_what_is_no_json_is_none_for_it_either(text: bytes) -> None:
    with pytest.raises(ValueError):
        plugin().parsed(text)


def test_it_starts_without_the_modules_that_take_most_of_a_start() -> None:
    told = f"import sys; sys.argv = ['x', 'info']; exec(open({str(SOURCE)!r}).read().replace('sys.exit(main())', 'main()')); "
    told += "print(sorted({'re', 'enum', 'json', 'socket', 'signal', 'typing'} & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run(["/usr/bin/python3", "-IS", "-c", told], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
