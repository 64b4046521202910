"""The hook of podman, in strict mode: an annotated container has environment, certificates and resolver, unasked."""

import ast
import sys
from collections.abc import Sequence

import pytest

from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks
from tests.testlib.engines.podman import ROOT, Podman
from tests.testlib.patience import eventually

SERVER = ("python3", "-m", "http.server", "8080")
FIRST = "tr '\\0' '\\n' </proc/1/environ"


@pytest.fixture(scope="module")
def cell_overrides() -> Sequence[str]:
    return ("tls.mtls=strict",)


@pytest.fixture
def annotation(cell: CellUnderTest, podman: Podman) -> str:
    podman.use_hook()
    return f"--annotation=cellnet={cell.lab.root / 'run/cellnet/agent.sock'}"


def environment(podman: Podman, name: str) -> dict[str, str]:
    """Of a container's first process."""
    lines = podman("exec", name, "sh", "-c", FIRST).out.splitlines()
    return dict(each.split("=", 1) for each in lines)


def test_an_annotated_container_has_all_that_an_app_finds_at_each_start(
    cell: CellUnderTest, podman: Podman, annotation: str
) -> None:
    podman.container("api", "acme/shop/api", command=SERVER)
    podman.container("web", "acme/shop/web", options=[annotation, "--env=CF_INSTANCE_INDEX=mine"])
    found = cell.client.get("/v1/attachments/web").mapping("environment")
    assert environment(podman, "web").items() >= {**found, "CF_INSTANCE_INDEX": "mine"}.items()
    for name in ("CF_INSTANCE_CERT", "CF_INSTANCE_KEY", "CF_INSTANCE_CA"):
        assert podman("exec", "web", "head", "-1", found[name]).out.startswith("-----BEGIN")
        assert podman("exec", "web", "touch", found[name], code=None).code != 0
    lines = podman("exec", "web", "cat", "/etc/resolv.conf").out.splitlines()
    assert [each for each in lines if each.startswith("nameserver")] == ["nameserver 169.254.0.2"]
    call = "import urllib.request as r; print(r.urlopen('http://api:8080/', timeout=5).status)"
    cell.allow("acme/shop/web", "acme/shop/api", "tcp/8080")
    eventually(lambda: podman("exec", "web", "python3", "-c", call, code=None).out == "200\n")
    podman("stop", "--time=0", "web")
    podman("start", "web")
    assert (
        environment(podman, "web")["CF_INSTANCE_INTERNAL_IP"] == str(podman.address("web")) != found["CF_INSTANCE_INTERNAL_IP"]
    )


def test_the_commands_of_the_page_about_engines_do_what_it_says(cell: CellUnderTest, podman: Podman, annotation: str) -> None:
    (block,) = blocks("docs/engines.md", test="tests/cell/engines/test_podman_hook.py")
    said = podman.shell(block.replace("--annotation cellnet=yes", annotation))
    assert "CF_INSTANCE_INTERNAL_IP=10.255.1." in said
    assert cell.attachments() == []


def test_one_that_is_not_annotated_is_left_as_it_is(podman: Podman, annotation: str) -> None:
    assert annotation
    podman.container("web", "acme/shop/web")
    assert "CF_INSTANCE_CERT" not in environment(podman, "web")


@pytest.mark.parametrize("options", [["--network=none"], ["--network-alias=acme/shop/web", "--annotation=cellnet=/nowhere"]])
def test_one_that_cannot_have_it_does_not_start_and_its_user_reads_where_the_reason_is(
    podman: Podman, annotation: str, options: list[str]
) -> None:
    done = podman.run("web", options=[annotation, *options], code=None)
    assert done.code != 0
    assert "journalctl -t cellnet-oci-hook says why" in done.err


def test_it_imports_nothing_but_the_standard_library() -> None:
    tree = ast.parse((ROOT / "agent/cni/oci_hook.py").read_text())
    names = {each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    names |= {alias.name for each in ast.walk(tree) if isinstance(each, ast.Import) for alias in each.names}
    assert {each.partition(".")[0] for each in names} <= sys.stdlib_module_names
