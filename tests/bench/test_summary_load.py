"""What summaries cost an etcd can be measured. How much is not asserted."""

from pathlib import Path

from bench.summary_load import measure


async def test_each_cell_writes_and_one_reads_all(tmp_path: Path) -> None:
    found = await measure(5, tmp_path)
    assert found.read_milliseconds > 0
    assert found.writing >= 0
    assert found.reading >= 0
