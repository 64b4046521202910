"""The door for processes: results, refusals in words, and tools whose work is done before they end."""

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from host import process
from host.errors import HostRefused
from tests.testlib.first_thread import without_first_thread
from tests.testlib.patience import eventually

pytestmark = pytest.mark.release

DONE = b"# done"


def sh(script: str, *, timeout: float = 20.0, stdin: bytes = b"") -> None:
    process.run_until(["sh", "-c", script], line=DONE, timeout=timeout, stdin=stdin)


def await_end(name: str) -> None:
    for each in threading.enumerate():
        if each.name == name:
            each.join(20)
            assert not each.is_alive()


def test_the_end_of_a_tool_that_has_reported_its_work_is_not_awaited(tmp_path: Path) -> None:
    barrier, ended = tmp_path / "barrier", tmp_path / "ended"
    sh(f"echo before; echo '# done'; while ! test -e {barrier}; do sleep 0.01; done; touch {ended}")
    assert not ended.exists()
    barrier.touch()
    await_end("await-end")
    assert ended.exists()


@pytest.mark.usefixtures("many_files")
def test_a_process_with_thousands_of_open_files_still_reads_its_tools() -> None:
    with ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.open("/dev/null", os.O_RDONLY))
        sh("echo '# done'")


def test_a_tool_that_has_done_its_work_and_does_not_end_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    sh(f"echo $$ >{pid}; echo '# done'; exec sleep 1000", timeout=1.0)
    await_end("await-end")
    assert process.start_time(int(pid.read_text())) is None


def test_a_process_is_there_until_the_last_of_its_threads_has_ended() -> None:
    with without_first_thread() as dying:
        assert process.start_time(dying.pid) is not None
        assert dying.stdin is not None
        dying.stdin.close()
        eventually(lambda: process.start_time(dying.pid) is None)
        assert dying.poll() == 0, "nobody had waited for it: it was a zombie"


def test_a_tool_that_ends_well_without_a_word_has_done_its_work() -> None:
    sh("echo '# done it will not say'")


def test_a_failure_of_a_tool_is_reported_in_its_own_words() -> None:
    with pytest.raises(HostRefused, match="line 3 is wrong"):
        sh("echo line 3 is wrong >&2; exit 2")
    with pytest.raises(HostRefused, match="exit code 7"):
        sh("exit 7")


def test_a_missing_tool_is_reported() -> None:
    with pytest.raises(HostRefused, match="not installed"):
        process.run_until(["no-such-tool"], line=DONE, timeout=1.0, stdin=b"")


def test_a_tool_that_hangs_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(HostRefused, match=r"within 0\.2 s"):
        sh(f"echo $$ >{pid}; exec sleep 1000", timeout=0.2)
    assert time.monotonic() - started < 100
    assert process.start_time(int(pid.read_text())) is None


def test_a_tool_that_closes_its_output_and_hangs_is_killed_too() -> None:
    with pytest.raises(HostRefused, match="did not end"):
        sh("exec >&-; exec sleep 1000", timeout=0.2)


def test_large_input_and_large_output_block_neither_side() -> None:
    much = bytes(1 << 20)
    sh("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; cat >/dev/null; echo; echo '# done'", stdin=much)
    with pytest.raises(HostRefused, match="the last of it"):
        sh("head -c 1000000 /dev/zero >&2; echo >&2; echo the last of it >&2; exit 1", stdin=much)


def test_a_tool_gets_what_it_is_given(tmp_path: Path) -> None:
    sh(f"cat >{tmp_path}/got; echo '# done'", stdin=b"one\ntwo\n")
    assert (tmp_path / "got").read_bytes() == b"one\ntwo\n"
