"""`host_services`: ports of the host itself that containers may reach."""

from agent.config.problems import Report
from agent.config.source import Node
from agent.config.values import choice, integer, table
from dataplane.state import HostService

KEYS = ("protocol", "port")
PROTOCOL = choice({"tcp": "tcp", "udp": "udp"})
PORT = integer(low=1, high=65535, what="a port")


def host_service(node: Node, report: Report) -> HostService | None:
    """`{protocol: tcp, port: 9001}`; both keys are needed."""
    found = table(node, report, keys=KEYS, what="{protocol: tcp, port: 9001}")
    if found is None:
        return None
    for key in KEYS:
        if key not in found:
            report.wrong(node, f"a host service needs '{key}'", hint="e.g. {protocol: tcp, port: 9001}")
    if len(found) < len(KEYS):
        return None
    protocol, port = PROTOCOL(found["protocol"][1], report), PORT(found["port"][1], report)
    return None if protocol is None or port is None else HostService(protocol, port)
