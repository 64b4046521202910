"""What a monitoring system can ask for, in Prometheus' words; served at `/v1/metrics`. Counters begin with the agent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.errors import RAISED

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # seconds


@dataclass(frozen=True, slots=True)
class Levels:
    """What is read off at each scrape. `expiries` by role: root, cell, leaf (the one that ends first); `limit_hits` by the
    attachment's name and what is limited: new, connections, received, sent; `flows` by the two apps."""

    attachments: int
    rules: int
    envoy_connected: bool
    envoy_refused: int
    envoy_pushed: int
    dns_answers: bool
    named_instances: int
    problems: int
    lost_refusals: int
    limit_hits: dict[tuple[str, str], int]
    flows: Mapping[tuple[str, str], int]
    expiries: dict[str, datetime]


class Metrics:
    """One registry per agent."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        gauge = partial(Gauge, registry=self._registry)
        counter = partial(Counter, registry=self._registry)
        self.convergence = Histogram(
            "cellnet_convergence_seconds", "Time of a turn that changed the host", buckets=BUCKETS, registry=self._registry
        )
        self.failed_turns = counter("cellnet_failed_turns", "Turns that the host refused as a whole")
        self.repairs = counter("cellnet_repairs", "Times that something changed by others was put back")
        self.flows_cut = counter("cellnet_flows_cut", "Live connections ended because nothing allows them any more")
        self.refused_attaches = counter("cellnet_refused_attaches", "Attaches that failed and were undone", ["kind"])
        for kind in RAISED:  # a counter that comes to be at 1 has not increased, for Prometheus
            self.refused_attaches.labels(kind.__name__)
        self.refused_calls = counter("cellnet_refused_calls", "Calls between containers that Envoy has refused", ["reason"])
        gauge("cellnet_up", "1 while the agent answers").set(1)
        self.audited = counter(
            "cellnet_audited", "What passed by a policy in audit alone, as far as it was heard of", ["protocol"]
        )
        self.denied = counter("cellnet_denied", "What was denied, as far as it was heard of", ["reason", "protocol"])
        self.denied_pairs = counter(
            "cellnet_denied_pairs", "What was denied by apps, as far as it was heard of", ["source", "destination"]
        )
        self._flows = gauge(
            "cellnet_flows", "Open connections and other flows by apps, once a minute", ["source", "destination"]
        )
        self._lost = gauge("cellnet_lost_refusals", "Calls that Envoy has refused and could not report")
        self._attachments = gauge("cellnet_attachments", "Containers attached")
        self._rules = gauge("cellnet_rules", "Rules of iptables that are ours")
        self._connected = gauge("cellnet_envoy_connected", "1 while Envoy is connected")
        self._refused = gauge("cellnet_envoy_nacks", "Resources that Envoy refuses now")
        self._pushed = gauge("cellnet_envoy_pushed_resources", "Resources sent to Envoy or taken back since the agent's start")
        self._answers = gauge("cellnet_dns_answers", "1 while the cell's dnsmasq answers")
        self._named = gauge("cellnet_dns_instances", "Instances of all cells that have names here")
        self._problems = gauge("cellnet_problems", "What status lists as wrong")
        self._limit_hits = gauge(
            "cellnet_limit_hits", "Connections refused and packets dropped by a container's own limits", ["name", "limit"]
        )
        self._left = gauge("cellnet_certificate_seconds_left", "Until the first certificate of a role ends", ["role"])

    def text(self, levels: Levels, *, now: datetime) -> str:
        """The exposition format, with `levels` as they are now."""
        self._attachments.set(levels.attachments)
        self._rules.set(levels.rules)
        self._connected.set(levels.envoy_connected)
        self._refused.set(levels.envoy_refused)
        self._pushed.set(levels.envoy_pushed)
        self._answers.set(levels.dns_answers)
        self._named.set(levels.named_instances)
        self._problems.set(levels.problems)
        self._lost.set(levels.lost_refusals)
        self._limit_hits.clear()  # of containers that have gone
        for (name, limit), hits in levels.limit_hits.items():
            self._limit_hits.labels(name, limit).set(hits)
        self._flows.clear()
        for pair, count in levels.flows.items():
            self._flows.labels(*pair).set(count)
        for role, ends in levels.expiries.items():
            self._left.labels(role).set((ends - now).total_seconds())
        return generate_latest(self._registry).decode()
