"""The scripts of `make bench` run on a real cell, print their table and write their JSON. How fast is not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.bench_attach import ATTACH, DETACH
from bench.bench_policy import ALLOW, DELETE, FILE_IN, FILE_OUT

ROOT = Path(__file__).parents[2]
ONCE = ("--rounds", "1", "--runs", "1")


def measured(script: str, *options: str, results: Path) -> dict[str, dict[str, object]]:
    """Run a script; its series by name."""
    command = [sys.executable, "-m", f"bench.{script}", *ONCE, *options, "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = results.iterdir()
    found = {each["what"]: each for each in json.loads(written.read_text())["series"]}
    assert all(name in done.stdout for name in found)
    return found


def test_the_script_for_policies_measures_files_and_commands(tmp_path: Path) -> None:
    found = measured("bench_policy", "--rules", "3", "--backend", "legacy", results=tmp_path)
    assert {FILE_IN, FILE_OUT, ALLOW, DELETE} < found.keys()
    assert all(each["count"] == 1 and each["setting"] == "3 rules around, legacy" for each in found.values())


def test_the_script_for_attaches_measures_them_singly_and_at_once(tmp_path: Path) -> None:
    options = ("--attached", "1", "--bursts", "1", "--many", "3", "--clients", "2")
    found = measured("bench_attach", *options, results=tmp_path)
    assert found[ATTACH]["count"] == found[DETACH]["count"] == 1
    assert {name: each["count"] for name, each in found.items() if "clients" in name} == {
        "attach, each of 3 from 2 clients at once": 3,
        "attach, all 3 from 2 clients": 1,
    }


def test_the_script_for_revokes_cuts_connections_in_every_way_and_direction(tmp_path: Path) -> None:
    found = measured("bench_revoke", "--rules", "1", "--backend", "nft", results=tmp_path)
    for how in ("file edited", "file vanished", "policy delete (API)"):
        for seen in ("last byte, server sends", "client's reset, server sends", "client's reset, client sends"):
            assert found[f"{how} -> {seen}"]["count"] == 1


@pytest.mark.parametrize("script", ["bench_policy", "bench_attach", "bench_revoke"])
def test_a_script_says_what_can_be_asked_of_it(script: str) -> None:
    command = [sys.executable, "-m", f"bench.{script}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "--rounds" in done.stdout
    assert "--runs" in done.stdout
