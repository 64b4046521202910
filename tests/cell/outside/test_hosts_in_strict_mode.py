"""Hosts outside in strict mode, and as programs ask for them: by the C library, for both kinds of addresses."""

import json
import sys
from collections.abc import Callable

from lab.segment import OUTSIDE
from tests.testlib.cell import CellUnderTest
from tests.testlib.dns.scripted_server import scripted_dns
from tests.testlib.outside import served

CALL = "import socket, sys; print(socket.create_connection((sys.argv[1], 443), 5).getpeername()[0])"
RULES = [{"from": "acme/shop/web", "to": {"host": "*.example.com"}, "tcp": 443}]


def test_a_program_calls_a_host_by_its_name_and_no_other(make_cell: Callable[..., CellUnderTest]) -> None:
    cell = make_cell("tls.mtls=strict", f"dns.upstreams=['{OUTSIDE.ip}']")
    web, api = cell.run_app("acme/shop/web"), cell.run_app("acme/shop/api")
    cell.policy_file("hosts.yaml", json.dumps({"policies": RULES}))
    with served(cell.outside, tcp=(443,)), scripted_dns(cell.outside, at=OUTSIDE.ip) as dns:
        dns.records = {f"{name}.example.{zone}": ["A 198.18.0.1"] for name in ("api", "www") for zone in ("com", "org")}
        assert web.exec(sys.executable, "-IS", "-c", CALL, "api.example.com").split() == ["198.18.0.1"]
        assert "Name or service not known" in web.exec(sys.executable, "-IS", "-c", CALL, "api.example.org", code=1)
        assert "Name or service not known" in api.exec(sys.executable, "-IS", "-c", CALL, "www.example.com", code=1)
        assert "Connection refused" in api.exec(sys.executable, "-IS", "-c", CALL, "198.18.0.1", code=1)
