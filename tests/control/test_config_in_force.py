"""What agent.yaml says otherwise than what runs: key by key, until it is taken up, and never half of a file with a mistake."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from agent.config.config import Config
from agent.config.current import CurrentConfig
from agent.config.load import load
from agent.config.problems import InvalidSource
from agent.control.config_in_force import ConfigInForce
from agent.pacing import wait_for_event
from tests.testlib.patience import PATIENCE

FIRST = "tls: {leaf_lifetime: 12h}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text(FIRST)
    return path


@pytest.fixture
def taken() -> list[Config]:
    return []


@pytest.fixture
def in_force(file: Path, taken: list[Config]) -> ConfigInForce:
    read = partial(load, file, root=None, hostname="host")
    return ConfigInForce(CurrentConfig(read()), load=read, take=taken.append)


def said(part: ConfigInForce) -> list[tuple[str, str]]:
    return [(each.what, each.hint) for each in part.problems()]


def test_keys_that_are_otherwise_in_the_file_are_named_with_what_takes_them_up(file: Path, in_force: ConfigInForce) -> None:
    assert said(in_force) == []
    file.write_text("# only a comment\n" + FIRST)
    assert said(in_force) == []
    file.write_text("tls: {leaf_lifetime: 90m, port: 8443}\n")
    what = f"{file} differs from what runs: tls.port (8443 there, 61443 here), tls.leaf_lifetime (90m there, 12h here)"
    hint = "restart the agent to take up tls.port; cellnet config reload takes tls.leaf_lifetime up"
    assert said(in_force) == [(what, hint)]
    file.unlink()
    what = f"{file} differs from what runs: tls.leaf_lifetime (24h there, 12h here)"
    assert said(in_force) == [(what, "cellnet config reload takes it up")]
    file.symlink_to("nowhere")
    assert said(in_force)[0][0] == f"cannot read {file}: No such file or directory"


def test_a_key_that_decides_containers_addresses_is_named_as_one_for_an_empty_cell(file: Path, in_force: ConfigInForce) -> None:
    file.write_text(FIRST + "overlay: {network: 10.99.0.0/16}\n")
    ((_, hint),) = said(in_force)
    assert hint == (
        "restart the agent to take up overlay.network: for overlay.network once it has no containers (cellnet drain)"
    )


def test_a_reload_takes_what_can_be_taken_and_names_the_rest(file: Path, in_force: ConfigInForce, taken: list[Config]) -> None:
    file.write_text("tls: {leaf_lifetime: 90m, port: 8443}\nlog: {level: warning}\n")
    assert {each.key: each.live for each in in_force.reload()} == {
        "tls.port": False, "tls.leaf_lifetime": True, "log.level": True,
    }  # fmt: skip
    assert taken == [in_force.config]
    assert (in_force.config.tls.leaf_lifetime, in_force.config.tls.port) == (timedelta(minutes=90), 61443)
    assert in_force.config.origins == {"tls.leaf_lifetime": f"{file}:1", "log.level": f"{file}:2"}
    assert said(in_force) == [(f"{file} differs from what runs: tls.port (8443 there, 61443 here)",
                               "restart the agent to take up tls.port")]  # fmt: skip
    file.write_text(FIRST)
    in_force.reload()
    assert said(in_force) == []


def test_a_file_with_a_mistake_changes_nothing_and_is_a_problem_until_it_is_mended(
    file: Path, in_force: ConfigInForce, taken: list[Config]
) -> None:
    file.write_text("tls: {leaf_lifetime: 90m, prot: 8443}\n")
    with pytest.raises(InvalidSource):
        in_force.reload()
    in_force.reload_quietly()
    assert (taken, in_force.values()["tls.leaf_lifetime"]) == ([], "12h")
    ((what, _),) = said(in_force)
    assert f"{file}:1:27: unknown key 'prot'" in what
    file.write_text(FIRST)
    assert said(in_force) == []


@pytest.mark.parametrize("text", [FIRST, "prot: 1\n"])
async def test_policy_files_are_read_again_whatever_has_become_of_agent_yaml(file: Path, text: str) -> None:
    read, signals, reread = partial(load, file, root=None, hostname="host"), asyncio.Event(), asyncio.Event()

    async def read_policies() -> None:
        reread.set()

    part = ConfigInForce(CurrentConfig(read()), load=read, take=lambda _: None, reread=read_policies)
    await asyncio.to_thread(file.write_text, text)
    following = asyncio.create_task(part.follow(signals))
    signals.set()
    assert await wait_for_event(reread, within=PATIENCE)
    following.cancel()


def test_name_servers_are_live_only_where_the_hop_asks_them(file: Path, in_force: ConfigInForce) -> None:
    for text, live in (("dns: {upstreams: [192.0.2.53]}", True), ("dns: {upstreams: none}", False)):
        file.write_text(FIRST + text)
        list(in_force.problems())
        assert [(each.key, each.live) for each in in_force.differing()] == [("dns.upstreams", live)]
    file.write_text(FIRST + "dns: {upstreams: [192.0.2.53]}\negress: {default: allow}")
    list(in_force.problems())
    assert {each.key: each.live for each in in_force.differing()} == {"dns.upstreams": False, "egress.default": False}
