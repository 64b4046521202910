"""docs/monitor: what its alerts and its dashboard ask for is what the agent has, and all of it."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from agent.metrics import Levels, Metrics

FOLDER = Path(__file__).parents[2] / "docs/monitor"
NOW = datetime(2030, 1, 2, tzinfo=UTC)
SELECTOR = re.compile(r"\b((?:cellnet|node|up)\w*)\b(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPED = re.compile(r"by \(([^)]*)\)")
OTHERS = {"up": {"job", "instance"}, "node_textfile_mtime_seconds": {"file", "instance"}}
ADDED = {"instance", "job"}  # by Prometheus to all


def present() -> dict[str, set[str]]:
    """The labels of each sample that the agent writes, by its name."""
    metrics = Metrics()
    metrics.refused_attaches.labels("Conflict").inc()
    metrics.refused_calls.labels("policy").inc()
    metrics.denied_pairs.labels("acme/shop/web", "acme/shop/api").inc()
    levels = Levels(
        attachments=1, rules=1, envoy_connected=True, envoy_refused=0, envoy_pushed=1, dns_answers=True, named_instances=1,
        problems=0, lost_refusals=0, limit_hits={("web", "new"): 1}, flows={("acme/shop/web", "acme/shop/api"): 1},
        expiries=dict.fromkeys(("root", "cell", "leaf"), NOW),
    )  # fmt: skip
    text = metrics.text(levels, now=NOW - timedelta(days=1))
    families = text_string_to_metric_families(text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def asked() -> Iterator[tuple[str, str]]:
    """Every query, with the name of its file."""
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    for group in rules["groups"]:
        yield from (("alerts", each["expr"]) for each in group["rules"])
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        yield from (("dashboard", each["expr"]) for each in panel["targets"])


QUERIES = sorted(set(asked()))


def selectors(query: str) -> dict[str, set[str]]:
    """The metrics of a query, with the labels that each is selected by."""
    return {name: set(LABEL.findall(labels or "")) for name, labels in SELECTOR.findall(query)}


@pytest.mark.parametrize(("file", "query"), QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_there_are(file: str, query: str) -> None:
    there = present() | OTHERS
    found = selectors(query)
    assert found
    for name, labels in found.items():
        assert name in there, name
        assert labels <= there[name] | ADDED, name
    grouped = {each.strip() for group in GROUPED.findall(query) for each in group.split(",")}
    assert grouped <= set.union(*(there[name] for name in found)) | ADDED
    assert query.count("(") == query.count(")")


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for file, query in QUERIES if file == "dashboard" for name in selectors(query)}
    missing = {each for each in present() if not each.endswith(("_created", "_bucket", "_sum", "_count"))} - shown
    assert missing == set()
    assert {"cellnet_convergence_seconds_bucket", "cellnet_convergence_seconds_count"} <= shown


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    rules = [each for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for each in group["rules"]]
    assert len({each["alert"] for each in rules}) == len(rules) > 10
    assert {each["labels"]["severity"] for each in rules} == {"critical", "warning"}
    assert all(each["annotations"]["summary"] and each["annotations"]["action"] for each in rules)
    roles = {role for each in rules for role in re.findall(r'role="(\w+)"', each["expr"])}
    assert roles == {"root", "cell", "leaf"}


def test_no_two_panels_lie_on_each_other() -> None:
    places = set[tuple[int, int]]()
    for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not places & mine, panel["title"]
        places |= mine
