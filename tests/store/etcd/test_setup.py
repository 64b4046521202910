"""docs/store.md sets an etcd up, from nothing to a cell that reaches it with a user of its own."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config.load import load
from agent.store.etcd.client import EtcdClient
from agent.store.etcd.store import EtcdStore
from tests.testlib.documents import ROOT, blocks, run_in_shell
from tests.testlib.samples import app
from tests.testlib.stores.etcd import free_port

SETTINGS, CONFIG = "```sh\n# /etc/default/etcd\n", "```yaml\n# /etc/cellnet/agent.yaml\n"
ADDRESS = "192.0.2.5"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def instead(tmp_path: Path, port: int) -> dict[str, str]:
    """The document's paths are below the test's folder, and etcd's address is this machine's own."""
    return {"/etc/": f"{tmp_path}/etc/", ADDRESS: "127.0.0.1", "2379": str(port), "chown etcd": "chown root"}


def shown(document: str, start: str, instead: dict[str, str]) -> str:
    """The rest of a file that a document shows."""
    text = (ROOT / document).read_text().partition(start)[2].partition("```")[0]
    for word, there in instead.items():
        text = text.replace(word, there)
    return text


@pytest.fixture
def etcd(tmp_path: Path, instead: dict[str, str]) -> Iterator[None]:
    """It runs with the certificates and the settings of the document."""
    (tmp_path / "etc").mkdir()
    certificates = blocks("docs/store.md", test="tests/store/etcd/test_setup.py")[0]
    run_in_shell(certificates, folder=tmp_path, instead=instead, env=os.environ)
    settings = dict(line.split("=", 1) for line in shown("docs/store.md", SETTINGS, instead).splitlines())
    peers = f"http://127.0.0.1:{free_port()}"
    where = ["--data-dir", str(tmp_path / "data"), "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    command = ["etcd", *where, "--initial-cluster", f"default={peers}", "--logger", "zap", "--unsafe-no-fsync"]
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        yield
    finally:
        running.kill()
        running.wait()


@pytest.mark.usefixtures("etcd")
async def test_the_documents_commands_make_an_etcd_that_asks_for_users_and_a_cell_that_has_one(
    tmp_path: Path, instead: dict[str, str]
) -> None:
    users, files = blocks("docs/store.md", test="tests/store/etcd/test_setup.py")[1:]
    rights = blocks("docs/store.md", test="tests/store/etcd/test_rights.py")
    operator = blocks("docs/cells.md", test="tests/store/etcd/test_operator.py")
    answers = "until etcdctl endpoint health 2>/dev/null; do sleep 0.1; done"
    first, others = users.split("\n", 1)
    run_in_shell(first, answers, others, *rights, *operator, folder=tmp_path, instead=instead, env=os.environ)
    run_in_shell("cd /etc/etcd", files, folder=tmp_path, instead=instead, env=os.environ)
    config = tmp_path / "agent.yaml"
    config.write_text(shown("docs/cells.md", CONFIG, instead))
    settings = load(config, root=None, hostname="host").store
    assert settings is not None
    client = EtcdClient(settings)
    try:
        store = EtcdStore(client, prefix="/cellnet", cell="cell-1")
        assert await store.claim_tags([app("web")], now=1.0) == {app("web"): 1}
    finally:
        await client.close()
