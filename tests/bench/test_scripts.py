"""The scripts of `make bench` run on a real cell, print their table and write their JSON. How fast is not asserted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import look
from bench.bench_attach import ATTACH, DETACH
from bench.bench_boot import AGENT, ALLOWING, DENYING, SYSTEMD
from bench.bench_engine import ADD, DEL, NETWORKS, REMOVE, RUN
from bench.bench_memory import LIBRARIES
from bench.bench_policy import ALLOW, DELETE, FILE_IN, FILE_OUT
from bench.bench_revoke import LAST, READ
from bench.stages.engine import BRIDGES

ROOT = Path(__file__).parents[2]
ONCE = ("--rounds", "1", "--runs", "1")


def run(script: str, *options: str, results: Path) -> list[dict[str, Any]]:
    """Run a script; what is in its JSON, all of which is in its table."""
    command = [sys.executable, "-m", f"bench.{script}", *ONCE, *options, "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    (written,) = results.iterdir()
    text = json.loads(written.read_text())
    found: list[dict[str, Any]] = text.get("series") or text["figures"]
    assert all(str(each[word]) in done.stdout for each in found for word in ("what", "setting"))
    return found


def measured(script: str, *options: str, results: Path) -> dict[str, dict[str, Any]]:
    """Run a script that measures in one setting; its series by name."""
    return {each["what"]: each for each in run(script, *options, results=results)}


def test_the_script_for_policies_measures_files_and_commands(tmp_path: Path) -> None:
    found = measured("bench_policy", "--rules", "3", "--backend", "legacy", results=tmp_path)
    assert {FILE_IN, FILE_OUT, ALLOW, DELETE} < found.keys()
    assert all(each["count"] == 1 and each["setting"] == "3 rules around, legacy" for each in found.values())


def test_the_script_for_attaches_measures_them_singly_and_at_once(tmp_path: Path) -> None:
    sizes = ("--attached", "1", "--rules", "81", "--bursts", "1", "--many", "3", "--clients", "2")
    found = run("bench_attach", *sizes, "--backend", "legacy", results=tmp_path)
    counts = {(each["what"], each["setting"]): each["count"] for each in found}
    for setting in ("1 attached, legacy", "2 attached, 81 rules, legacy"):
        assert counts[ATTACH, setting] == counts[DETACH, setting] == counts[look.WHAT, setting] == 1
    assert {name: count for (name, _), count in counts.items() if "clients" in str(name)} == {
        "attach, each of 3 from 2 clients at once": 3,
        "attach, all 3 from 2 clients": 1,
    }


def test_the_script_for_boots_measures_until_a_cell_denies_and_until_it_allows(tmp_path: Path) -> None:
    found = measured("bench_boot", results=tmp_path)
    assert 0 < found[SYSTEMD]["p50"] < found[DENYING]["p50"] < found[ALLOWING]["p50"]
    assert 0 < found[AGENT]["p50"] < found[DENYING]["p50"]


def test_the_script_for_commands_measures_ours_beside_the_bare_interpreter(tmp_path: Path) -> None:
    found = run("bench_command", results=tmp_path)
    ours = {each["what"]: each for each in found if each["bar"]}
    assert [what.split()[1] for what in ours] == ["ps", "status", "policy", "exec"]
    bare = next(each["p50"] for each in found if each["what"] == "python3 -c pass")
    assert all(each["bar"] == "at most 60 ms" and bare > 0 for each in ours.values())


def test_the_script_for_engines_measures_the_plugin_and_podman_on_both_networks(tmp_path: Path) -> None:
    found = measured("bench_engine", "--attached", "1", "--mtls", "none", results=tmp_path)
    podman = [what.format(network=network) for what in (RUN, REMOVE) for network in NETWORKS.values()]
    wanted = {ADD, DEL, *(podman if (BRIDGES / "bridge").exists() else ())}
    assert found.keys() == wanted
    assert all(each["count"] == 1 and each["setting"] == "1 attached" for each in found.values())
    assert {what: each["bar"] for what, each in found.items() if each["bar"]} == {ADD: "p50 60"}


def test_the_script_for_memory_reads_both_processes_before_and_after_others_came_and_went(tmp_path: Path) -> None:
    sizes = ("--attached", "1", "--attached", "2", "--cycles", "4", "--wait", "0")
    found = run("bench_memory", *sizes, results=tmp_path)
    rows = {(each["what"], each["setting"]): each for each in found}
    for part, growing in (("agent", "PSS"), ("envoy", "allocated")):
        for setting in ("1 attached", "2 attached", "2 attached, warm", "2 attached, 4 more came and went"):
            rss, pss = (rows[f"{part}, {kind}", setting]["p50"] for kind in ("RSS", "PSS"))
            assert 1 < pss <= rss
        assert rows[f"{part}, growth of {growing}", "2 attached, 4 more came and went"]["bar"] == "at most 1 MB"
    assert all(rows[f"agent, import of {name}", "fresh process"]["p50"] >= 0 for name in LIBRARIES)


def test_the_script_for_revokes_cuts_connections_in_every_way_and_direction(tmp_path: Path) -> None:
    found = run("bench_revoke", "--rules", "1", "--backend", "nft", results=tmp_path)
    counts = {(each["what"], each["setting"]): each["count"] for each in found}
    plain, strict = "1 rules around, nft", "1 rules around, nft, strict"
    ways = {plain: ("file edited", "file vanished", "policy delete (API)"), strict: ("file edited", "policy delete (API)")}
    for setting, hows in ways.items():
        for how in hows:
            for seen in ("last byte, server sends", "client's reset, server sends", "client's reset, client sends"):
                assert counts[f"{how} -> {seen}", setting] == 1
    assert counts[f"{READ} -> {LAST}", plain] == 1


def test_the_script_for_the_data_path_measures_every_path_in_turn(tmp_path: Path) -> None:
    sizes = ("--milliseconds", "1", "--few", "2", "--chart", "3", "--many", "81")
    found = run("bench_datapath", *sizes, results=tmp_path)
    rows = {(each["what"], each["setting"]): each["beside"] for each in found}
    for backend in ("nft", "legacy"):
        for what in ("request and answer", "new connections", "throughput"):
            assert rows[what, "bare path"] == {}
            assert rows[what, f"ten-rule firewall, {backend}"].keys() == {"bare"}
            assert rows[what, f"cellnet, 81 rules, {backend}"].keys() == {"bare", "ten-rule firewall", "cellnet, few rules"}
    for count in (2, 3, 81):
        for setting in (
            "cellnet, {}, nft",
            "flat list, {}, nft",
            "flat list, {}, legacy",
            "flat list behind conntrack, {}, nft",
        ):
            assert ("new connections", setting.format(f"{count} rules")) in rows
    assert {each["verdict"] for each in found if each["bar"]} <= {"met", "missed"}


def test_the_script_for_the_path_between_cells_measures_every_path_in_turn(tmp_path: Path) -> None:
    found = run("bench_cells", "--milliseconds", "1", "--few", "2", "--many", "81", results=tmp_path)
    rows = {(each["what"], each["setting"]): each["beside"] for each in found}
    for backend in ("nft", "legacy"):
        for what in ("request and answer", "new connections", "throughput"):
            assert rows[f"{what} between cells", "bare path"] == {}
            assert rows[f"{what} between cells", f"ten-rule firewall, {backend}"].keys() == {"bare"}
            few, many = (rows[f"{what} between cells", f"cellnet, {count} rules, {backend}"] for count in (2, 81))
            assert (few.keys(), many.keys()) == ({"bare", "ten-rule firewall"}, {*few, "cellnet, few rules"})
    assert {each["verdict"] for each in found if each["bar"]} <= {"met", "missed"}


def test_the_script_for_egress_measures_every_path_to_outside_in_turn(tmp_path: Path) -> None:
    found = run("bench_egress", "--milliseconds", "1", "--few", "2", "--many", "81", results=tmp_path)
    rows = {(each["what"], each["setting"]): each["beside"] for each in found}
    for what in ("request and answer to outside", "new connections to outside"):
        assert rows[what, "bare path"] == {}
        for backend in ("nft", "legacy"):
            for other in ("ten-rule firewall", "flat list behind conntrack, 81 rules"):
                assert rows[what, f"{other}, {backend}"].keys() == {"bare"}
            few, many = (rows[what, f"cellnet, {count} rules, {backend}"] for count in (2, 81))
            assert (few.keys(), many.keys()) == ({"bare", "ten-rule firewall", "flat list"}, {*few, "cellnet, few rules"})
    for what in ("name asked -> connected", "name asked -> connected, p99 of a round"):
        assert rows[what, "a container, by its policy"].keys() == {"the host itself"}
    assert {each["verdict"] for each in found if each["bar"]} <= {"met", "missed"}


def test_the_script_for_61443_measures_it_beside_haproxy_and_nginx(tmp_path: Path) -> None:
    found = run("bench_tls", "--milliseconds", "50", results=tmp_path)
    for what in ("new TLS connections, each with a request", "requests on kept connections", "throughput of large answers"):
        beside = {each["setting"]: each["beside"] for each in found if each["what"] == what}
        assert beside.keys() == {"61443", "HAProxy", "nginx"}
        assert beside["61443"].keys() == {"HAProxy", "nginx"}


def test_the_script_for_mutual_tls_compares_with_plain_tcp_and_with_haproxy_on_equal_terms(tmp_path: Path) -> None:
    found = run("bench_mtls", "--milliseconds", "20", "--attached", "1", "--settled", "0", results=tmp_path)
    rows = {(each["what"], each["setting"]): each for each in found}
    for what in ("throughput, one stream", "requests on 16 kept connections", "new connections of 16 callers"):
        assert rows[what, "strict"]["beside"].keys() == {"plain", "HAProxy pair"}
        assert rows[what, "strict"]["bar"]
    for what in ("attach in strict mode", "envoy in strict mode, RSS"):
        assert rows[what, "1 attached"]["p50"] > 0


def test_the_script_for_dns_asks_beside_a_bare_dnsmasq(tmp_path: Path) -> None:
    found = run("bench_dns", "--attached", "3", "--seconds", "1", results=tmp_path)
    rows = {(each["what"], each["setting"]): each for each in found}
    for what in ("questions answered", "processor time of one, in dnsmasq", "one question and its answer"):
        assert rows[what, "bare dnsmasq, 3 instances"]["p50"] > 0
        assert rows[what, "cellnet, 3 instances"]["beside"].keys() == {"bare dnsmasq"}
    assert rows["questions answered", "cellnet, 3 instances"]["bar"] == "x bare dnsmasq at least 1"


def test_the_script_for_followers_measures_with_one_beside_without(tmp_path: Path) -> None:
    found = run("bench_insight", "--milliseconds", "40", results=tmp_path)
    rows = {(each["what"], each["setting"]): each for each in found}
    for what in ("request and answer", "new connections"):
        assert rows[what, "one follows"]["beside"].keys() == {"nobody follows"}
    for load in ("5,000 new connections a second", "5,000 refusals a second"):
        assert rows["processor time of the agent", f"{load}, one follows"]["p50"] > 0
    assert rows["connections told", "5,000 new connections a second, one follows"]["p50"] > 0
    assert rows["explain", "two containers of one cell"]["p50"] > 0
    for what in ("page seen", "memory of its process", "all of a frame's work, p95"):
        assert rows[what, "500 apps, 2,000 arrows"]["p50"] > 0
    moved = rows["script and layout of a frame, p95", "500 apps, 2,000 arrows"]
    assert moved["bar"] == "at most 8 ms"


@pytest.mark.parametrize(
    "script",
    [
        f"bench_{each}"
        for each in (
            "policy",
            "attach",
            "revoke",
            "datapath",
            "cells",
            "egress",
            "spread",
            "watch",
            "store",
            "tls",
            "mtls",
            "memory",
            "command",
            "dns",
            "names",
            "insight",
        )
    ],
)
def test_a_script_shows_its_options(script: str) -> None:
    command = [sys.executable, "-m", f"bench.{script}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "--rounds" in done.stdout
    assert "--runs" in done.stdout
