"""docs/monitor/alerts.yaml as Prometheus reads it: each alert fires by what it is for, and by nothing else.

No time passes: promtool evaluates the rules over series that are written down.
"""

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from agent.metrics import Levels, Metrics

RULES = Path(__file__).parents[2] / "docs/monitor/alerts.yaml"
INSTANCE = 'instance="cell-1"'
WELL = {
    "cellnet_up": "1x90",
    'up{job="cellnet"}': "1x90",
    "cellnet_problems": "0x90",
    "cellnet_envoy_connected": "1x90",
    "cellnet_envoy_nacks": "0x90",
    "cellnet_dns_answers": "1x90",
    "cellnet_failed_turns_total": "0x90",
    "cellnet_repairs_total": "0x20 2x70",
    'cellnet_refused_attaches_total{kind="Conflict"}': "0x90",
    "cellnet_lost_refusals": "0x90",
    'cellnet_convergence_seconds_bucket{le="0.5"}': "0+10x90",
    'cellnet_convergence_seconds_bucket{le="1.0"}': "0+10x90",
    'cellnet_convergence_seconds_bucket{le="+Inf"}': "0+10x90",
    'cellnet_certificate_seconds_left{role="leaf"}': "43200x90",
    'cellnet_certificate_seconds_left{role="cell"}': "7776000x90",
    'cellnet_certificate_seconds_left{role="root"}': "86400000x90",
    'node_textfile_mtime_seconds{file="/var/lib/node_exporter/cellnet.prom"}': "0+60x90",
}
ILL = {
    "CellnetAgentDown": {"cellnet_up": "1x60 0x30"},
    "CellnetMetricsStale": {'node_textfile_mtime_seconds{file="/var/lib/node_exporter/cellnet.prom"}': "0+60x60 3600x30"},
    "CellnetProblem": {"cellnet_problems": "0x60 2x30"},
    "CellnetEnvoyDown": {"cellnet_envoy_connected": "1x60 0x30"},
    "CellnetEnvoyRefuses": {"cellnet_envoy_nacks": "0x60 1x30"},
    "CellnetNamesDown": {"cellnet_dns_answers": "1x60 0x30"},
    "CellnetTurnsFail": {"cellnet_failed_turns_total": "0x64 1x26"},
    "CellnetSlow": {'cellnet_convergence_seconds_bucket{le="0.5"}': "0x90"},
    "CellnetRepairs": {"cellnet_repairs_total": "0x20 0+1x70"},
    "CellnetAttachesFail": {'cellnet_refused_attaches_total{kind="Conflict"}': "0x64 1x26"},
    "CellnetCallsUnreported": {"cellnet_lost_refusals": "0x64 9x26"},
    "CellnetCertificateEnds": {'cellnet_certificate_seconds_left{role="leaf"}': "3000x90"},
    "CellnetRootEnds": {'cellnet_certificate_seconds_left{role="root"}': "86400x90"},
}
AT = "70m"


def names() -> list[str]:
    """Of all alerts."""
    return [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def promtool(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


def unit(series: Mapping[str, str], *firing: str) -> dict[str, object]:
    """One of promtool's tests: with these series exactly `firing` are there."""
    written = [{"series": with_instance(name), "values": values} for name, values in series.items()]
    wanted = [{"eval_time": AT, "alertname": each, "exp_alerts": []} for each in names() if each not in firing]
    fires = [{"expr": f'count(ALERTS{{alertname="{each}", alertstate="firing"}})', "eval_time": AT,
              "exp_samples": [{"labels": "{}", "value": 1}]} for each in firing]  # fmt: skip
    return {"interval": "1m", "input_series": written, "alert_rule_test": wanted, "promql_expr_test": fires}


def with_instance(name: str) -> str:
    """The series as that of one cell."""
    return f"{name[:-1]}, {INSTANCE}}}" if name.endswith("}") else f"{name}{{{INSTANCE}}}"


def test_promtool_takes_the_rules() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout
    assert f"SUCCESS: {len(names())} rules found" in done.stdout


def test_each_alert_fires_by_what_it_is_for_and_none_where_all_is_well(tmp_path: Path) -> None:
    assert ILL.keys() == set(names())
    tests = [unit(WELL), *(unit({**WELL, **series}, each) for each, series in ILL.items())]
    path = tmp_path / "alerts_test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", ["InvalidInput", "Conflict", "HostRefused", "Unavailable", "Bug"])
def test_failed_attaches_are_counted_from_zero_so_that_the_first_one_is_an_increase(kind: str) -> None:
    levels = Levels(
        attachments=0, rules=0, envoy_connected=True, envoy_refused=0, envoy_pushed=0, dns_answers=True, named_instances=0,
        problems=0, lost_refusals=0, limit_hits={}, flows={}, expiries={},
    )  # fmt: skip
    assert f'cellnet_refused_attaches_total{{kind="{kind}"}} 0.0\n' in Metrics().text(levels, now=datetime.now(UTC))
