"""Bad agent.yaml files as users write them, each with the exact words that report it; and paths that hold no such file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.load import load
from agent.config.problems import InvalidSource
from agent.config.settings import read_file
from agent.errors import HostRefused

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*.yaml"))


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 40
    assert {path.with_suffix("") for path in CORPUS.iterdir()} == {path.with_suffix("") for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_bad_file_is_reported_exactly(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / path.name).write_bytes(path.read_bytes())  # root's, in a checkout of whoever it is
    monkeypatch.chdir(tmp_path)  # so that the words hold on every machine
    with pytest.raises(InvalidSource) as caught:
        load(Path(path.name), root=None, hostname="host")
    assert f"{caught.value}\n" == path.with_suffix(".expected").read_text()


def a_link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "cannot read {}: Is a directory"),
        (a_link_to("agent.yaml"), "cannot read {}: Too many levels of symbolic links"),
        (a_link_to("nowhere"), "cannot read {}: No such file or directory"),
        (a_link_to("/proc/self/mem"), "cannot read {}: Input/output error"),
    ],
    ids=["directory", "loop", "nowhere", "unreadable"],
)
def test_what_cannot_be_read_is_the_hosts_refusal_and_never_the_defaults(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "agent.yaml"
    make(path)
    with pytest.raises(HostRefused) as caught:
        load(path, root=None, hostname="host")
    assert caught.value.what == words.format(path)
    assert caught.value.hint == "check the path and the permissions of the file"


@pytest.mark.parametrize("target", ["2 MiB", "/dev/zero"])
def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path, target: str) -> None:
    path = tmp_path / "agent.yaml"
    if target == "2 MiB":
        path.write_bytes(b"# \n" * (2 << 20))
        os.truncate(path, 2 << 20)
    else:
        path.symlink_to(target)
    with pytest.raises(InvalidSource) as caught:
        load(path, root=None, hostname="host")
    assert (
        str(caught.value)
        == f"{path}: the file has more than 1048576 bytes\nhint: is it the right one? policies may stand in several files"
    )


WORDS = st.sampled_from(
    ["cell: ", "tls: ", "port: ", "overlay: ", "network: ", "host_services: ", "10.255.0.0/16", "24h", "8443", "auto", "\n",
     "  ", "- ", "[", "]", "{", "}", ", ", ": ", "'", '"', "&a ", "*a", "!!str ", "|\n", "---\n", "#", "~", "on", "<<: "]
)  # fmt: skip
YAMLISH = st.lists(WORDS | st.text(max_size=3), max_size=30).map("".join)


AUTO = ("address", "interface", "mtu", "binary", "concurrency")  # may be None


@given(st.binary(max_size=300) | YAMLISH.map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_give_settings_or_problems_and_nothing_else(content: bytes) -> None:
    settings, report = read_file(content, file="agent.yaml")
    assert all(each.value is not None or report.found() or name.rpartition(".")[2] in AUTO for name, each in settings.items())
    assert not any(ord(char) < 32 and char not in "\t\n" for each in report.found() for char in str(each))
