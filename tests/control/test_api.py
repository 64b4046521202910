"""The control API over a real unix socket, with an agent on memory behind it."""

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Bug, Conflict, HostRefused, InvalidInput, Unavailable
from agent.model.key_owner import KeyOwner
from agent.model.policy import AppPolicy, Origin, Ports
from agent.model.status import Problem
from tests.control.conftest import Curl
from tests.testlib.fakes.cell import FakeCell, an_app, serving

WEB = {"app": "acme/shop/web", "netns": "/run/netns/web"}


def test_an_attachment_is_made_listed_shown_and_removed(curl: Curl) -> None:
    code, made = curl(
        "PUT",
        "/v1/attachments/w",
        {
            **WEB,
            "ports": [8080, "53/udp"],
            "routes": ["web.apps.internal"],
            "instance": 3,
            "limits": {"rate": "100mbit", "new": 9},
        },
    )
    row = {
        "name": "w", "app": "acme/shop/web", "instance": 3, "address": "10.255.1.2", "ports": [8080, "53/udp"],
        "routes": ["web.apps.internal"], "interface": "eth0", "tls": {"state": "ready", "not_after": "2030-01-03T03:04:05Z"},
        "ready": True, "limits": {"rate": "100mbit", "connections": None, "new": 9},
        "publish": [],
    }  # fmt: skip
    environment = {"CF_INSTANCE_INTERNAL_IP": "10.255.1.2", "CF_INSTANCE_INDEX": "3"}
    dns = {
        "nameservers": ["169.254.0.2"], "search": ["shop.acme.cell.internal", "acme.cell.internal"],
        "options": ["ndots:2", "edns0"],
        "file": "/run/cellnet/resolv/w",
    }  # fmt: skip
    asked = {"environment": environment, "warnings": [], "environment_file": "/run/cellnet/env/w"}
    assert (code, made) == (201, {**row, **asked, "dns": dns, "pin": "/nowhere/w"})
    assert curl("GET", "/v1/attachments/w/environment") == (200, asked)
    assert curl("GET", "/v1/attachments/v/environment")[0] == 404
    assert curl("GET", "/v1/attachments") == (200, [row])
    assert curl("GET", "/v1/attachments/w") == (200, made)
    assert curl("DELETE", "/v1/attachments/w") == (200, {"detached": True})
    assert curl("DELETE", "/v1/attachments/w") == (200, {"detached": False})
    assert curl("GET", "/v1/attachments") == (200, [])


def test_ports_are_published_as_they_are_asked_for_and_what_is_half_said_is_refused(curl: Curl) -> None:
    asked = [{"port": 8080, "to": 80}, {"port": 443, "tls": True, "address": "192.0.2.7"}]
    code, made = curl("PUT", "/v1/attachments/w", {**WEB, "publish": asked})
    assert code == 201
    assert [(each["port"], each["last"], each["to"], each["tls"]) for each in made["publish"]] == [
        (8080, 8080, 80, False), (443, 443, 61443, True),
    ]  # fmt: skip
    for wrong, what in (
        ({"port": 8080}, "port 8080 is published to nothing, or twice"),
        ({"port": 8080, "to": 80, "tls": True}, "port 8080 is published to nothing, or twice"),
        ({"port": 8080, "to": 80, "address": "here"}, "'here' is not an IPv4 address"),
        ({"to": 80}, "field 'publish.0.port' is missing"),
    ):
        code, answer = curl("PUT", "/v1/attachments/wrong", {**WEB, "publish": [wrong]})
        assert (code, answer["error"]["what"]) == (400, what)


def test_the_key_is_for_the_user_and_group_that_are_named(curl: Curl) -> None:
    given: dict[str, Any] = {"root": None, "user": {"uid": 1000}, "group": {"uid": 1000, "gid": 100}}
    for name, owner in given.items():
        assert curl("PUT", f"/v1/attachments/{name}", {**WEB, "key_owner": owner})[0] == 201
    assert curl.cell.key_owners == {"root": KeyOwner(), "user": KeyOwner(1000), "group": KeyOwner(1000, 100)}
    for wrong, what in (({"uid": -1}, "-1 is not the id of a user or group"), ({"gid": 1}, "field 'key_owner.uid' is missing")):
        code, answer = curl("PUT", "/v1/attachments/wrong", {**WEB, "key_owner": wrong})
        assert (code, answer["error"]["what"]) == (400, what)


def test_a_service_is_an_app_of_the_own_space_unless_it_is_named_in_full(curl: Curl) -> None:
    assert curl("PUT", "/v1/attachments/w", {**WEB, "services": ["db", "zeta/data/lake"]})[0] == 201
    assert list(map(str, curl.cell.services["w"])) == ["acme/shop/db", "zeta/data/lake"]
    code, answer = curl("PUT", "/v1/attachments/v", {**WEB, "services": ["data/lake"]})
    assert (code, answer["error"]["what"]) == (400, "'data/lake' is not an app's name")


def test_a_name_is_made_up_from_the_app(curl: Curl) -> None:
    names = [curl("POST", "/v1/attachments", WEB)[1]["name"] for _ in range(3)]
    assert names == ["web", "web-1", "web-2"]


def test_a_name_that_is_still_on_its_way_out_is_not_made_up(curl: Curl) -> None:
    curl.cell.leaving = {"web", "web-1"}
    assert curl("POST", "/v1/attachments", WEB)[1]["name"] == "web-2"
    assert curl("PUT", "/v1/attachments/web", WEB)[0] == 409, "a caller that insists gets the clash reported"


def test_callers_at_once_get_names_of_their_own(curl: Curl) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(curl("POST", "/v1/attachments", WEB)[1]["name"])) for _ in range(8)]
    curl.cell.waits = True
    for thread in threads:
        thread.start()
    while len(curl.cell.peers) < 8:
        time.sleep(0.005)
    curl.cell.gate.set()
    for thread in threads:
        thread.join()
    assert sorted(names) == ["web", *(f"web-{number}" for number in range(1, 8))]


def test_a_made_up_name_that_another_takes_meanwhile_is_replaced(curl: Curl) -> None:
    curl.cell.waits = True
    answers: list[Any] = []
    for ask in (lambda: curl("POST", "/v1/attachments", WEB), lambda: curl("PUT", "/v1/attachments/web", WEB)):
        threading.Thread(target=lambda ask=ask: answers.append(ask())).start()
    while len(curl.cell.peers) < 2:
        time.sleep(0.005)
    curl.cell.gate.set()
    while len(answers) < 2:
        time.sleep(0.005)
    # the first caller has the name: the other is given the next, or gets the clash reported if it insisted
    assert sorted(code for code, _ in answers) in ([201, 201], [201, 409])
    assert "web" in curl.cell.views


def test_a_clash_that_another_name_does_not_mend_is_reported(curl: Curl) -> None:
    curl.cell.fails = Conflict("the namespace is attached already")
    code, given = curl("POST", "/v1/attachments", WEB)
    assert (code, given["error"]["what"]) == (409, "the namespace is attached already")


def test_the_owner_of_a_callers_attachment_is_the_process_that_calls(curl: Curl) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(curl.path))
        body = json.dumps({**WEB, "owner": "caller"}).encode()
        caller.sendall(b"PUT /v1/attachments/w HTTP/1.1\r\nHost: cell\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert caller.recv(100).startswith(b"HTTP/1.1 201")
    assert curl.cell.owners["w"] == os.getpid()
    assert curl.cell.peers[0].pid == os.getpid()
    assert curl.cell.peers[0].uid == 0


@pytest.mark.parametrize(
    ("failure", "code", "kind"),
    [
        (InvalidInput("w", hint="h"), 400, "InvalidInput"),
        (Conflict("w", hint="h"), 409, "Conflict"),
        (HostRefused("w", hint="h"), 502, "HostRefused"),
        (Unavailable("w", hint="h"), 503, "Unavailable"),
        (Bug("w", hint="h"), 500, "Bug"),
    ],
)
def test_each_error_has_the_kind_of_its_remedy(curl: Curl, failure: Exception, code: int, kind: str) -> None:
    curl.cell.fails = failure
    assert curl("GET", "/v1/status") == (code, {"error": {"kind": kind, "what": "w", "hint": "h"}})


def test_an_unforeseen_error_is_a_bug_and_shows_no_details(curl: Curl) -> None:
    curl.cell.fails = KeyError("a secret")
    code, given = curl("GET", "/v1/status")
    assert code == 500
    assert given["error"]["kind"] == "Bug"
    assert "secret" not in json.dumps(given)
    assert isinstance(curl.cell.log[0]["exc_info"], KeyError)


def test_each_change_is_logged_with_its_caller(curl: Curl) -> None:
    curl("GET", "/v1/status")
    curl("DELETE", "/v1/attachments/w")
    assert [(each["method"], each["path"], each["status"]) for each in curl.cell.log] == [("DELETE", "/v1/attachments/w", 200)]


@pytest.mark.parametrize(
    ("method", "address", "raw", "code", "kind", "words"),
    [
        ("GET", "/v2/status", None, 404, "NotFound", "/v2/status"),
        ("GET", "/v1/attachments/nobody", None, 404, "NotFound", "nobody"),
        ("DELETE", "/v1/policies/nobody", None, 404, "NotFound", "nobody"),
        ("PUT", "/v1/status", b"{}", 405, "MethodNotAllowed", "does not take PUT"),
        ("PUT", "/v1/attachments/w", b"x" * (5 << 20), 413, "TooLarge", ""),
        ("PUT", "/v1/attachments/w", b"{", 400, "InvalidInput", "Invalid JSON"),
        ("PUT", "/v1/attachments/w", b"[]", 400, "InvalidInput", ""),
        ("PUT", "/v1/attachments/w", b"", 400, "InvalidInput", "'app' is missing; field 'netns' is missing"),
        ("PUT", "/v1/attachments/-w", json.dumps(WEB).encode(), 400, "InvalidInput", "-w"),
        ("PUT", "/v1/attachments/w", json.dumps({**WEB, "app": "web"}).encode(), 400, "InvalidInput", "'web'"),
        ("PUT", "/v1/attachments/w", json.dumps({**WEB, "netns": "web"}).encode(), 400, "InvalidInput", "absolute"),
        ("PUT", "/v1/attachments/w", json.dumps({**WEB, "ports": [0]}).encode(), 400, "InvalidInput", "port 0"),
        ("PUT", "/v1/attachments/w", json.dumps({**WEB, "ports": ["80x"]}).encode(), 400, "InvalidInput", "'80x'"),
        ("PUT", "/v1/attachments/w", json.dumps({**WEB, "ports": [True]}).encode(), 400, "InvalidInput", "ports.0"),
        ("PUT", "/v1/attachments/w", json.dumps({**WEB, "owner": "7"}).encode(), 400, "InvalidInput", "owner"),
        ("POST", "/v1/sync", b'{"timeout": 1e9}', 400, "InvalidInput", "timeout"),
        ("GET", "/v1/policies/check?from=a/b/c&to=a/b/d", None, 400, "InvalidInput", "query"),
        ("GET", "/v1/policies/check?from=a/b/c&to=a/b/d&port=tcp/any", None, 400, "InvalidInput", "tcp/any"),
    ],
)
def test_all_errors_have_one_shape(
    curl: Curl, method: str, address: str, raw: bytes | None, code: int, kind: str, words: str
) -> None:
    got, given = curl(method, address, raw=raw)
    assert got == code
    assert set(given) == {"error"}
    assert set(given["error"]) == {"kind", "what", "hint"}
    assert given["error"]["kind"] == kind
    assert words in given["error"]["what"]
    assert curl.cell.views == {}


def test_an_unknown_field_is_refused_with_the_one_that_was_meant(curl: Curl) -> None:
    code, given = curl("PUT", "/v1/attachments/w", {**WEB, "prots": [1]})
    assert code == 400
    assert given["error"] == {"kind": "InvalidInput", "what": "unknown field 'prots'", "hint": "did you mean 'ports'?"}


def test_policies_are_allowed_listed_checked_and_deleted(curl: Curl) -> None:
    curl.cell.rules.append(
        AppPolicy(
            "p", (an_app("acme/shop/x"),), an_app("acme/shop/y"), udp=(Ports(53, 60),), origin=Origin("/etc/p.yaml", 3, 5)
        )
    )
    body = {"from": "acme/shop/web", "to": "acme/shop/api", "ports": ["tcp/8080", "udp/any"]}
    assert curl("POST", "/v1/policies/allow", body) == (201, {"name": "web-to-api", "notices": []})
    assert curl("GET", "/v1/policies") == (200, [
        {"name": "p", "from": ["acme/shop/x"], "to": "acme/shop/y", "tcp": [], "udp": ["53-60"], "icmp": None,
         "mode": None, "until": None, "ended": False, "note": "",
         "origin": {"source": "/etc/p.yaml", "line": 3, "column": 5}},
        {"name": "web-to-api", "from": ["acme/shop/web"], "to": "acme/shop/api", "tcp": ["8080"], "udp": ["any"], "icmp": None,
         "mode": None, "until": None, "ended": False, "note": "",
         "origin": {"source": "store", "line": None, "column": None}},
    ])  # fmt: skip
    there = "/v1/policies/check?from=acme/shop/web&to=acme/shop/api&port=tcp/8080"
    back = "/v1/policies/check?from=acme/shop/api&to=acme/shop/web&port=tcp/8080"
    assert curl("GET", there) == (
        200,
        {
            "allowed": True,
            "by": "web-to-api",
            "origin": "store",
            "mode": None,
            "until": None,
            "note": "",
            "reverse": None,
            "ports": ["tcp/8080", "udp/any"],
            "notices": [],
            "not_on": [],
        },
    )
    assert curl("GET", back) == (
        200,
        {"allowed": False, "by": None, "origin": None, "mode": None, "until": None, "note": "",
         "reverse": {"by": "web-to-api", "origin": "store"}, "ports": [],
         "notices": [], "not_on": []},
    )  # fmt: skip
    assert curl("DELETE", "/v1/policies/web-to-api") == (200, {"deleted": True})
    assert curl("POST", "/v1/policies/apply", {"document": "policies: []"}) == (200, {"names": ["from-a-document"]})
    assert curl("POST", "/v1/policies/accept-loss") == (200, {"names": ["held"]})


def test_status_has_exactly_the_documented_fields(curl: Curl) -> None:
    code, given = curl("GET", "/v1/status")
    assert code == 200
    assert list(given) == [
        "ok", "problems", "cell", "store", "peers", "mutual_tls", "policies", "firewall", "limited", "envoy", "dns", "hosts",
        "ca", "rotation", "last_apply", "repairs", "last_repairs", "cuts", "last_cuts", "refusals", "denied",
        "history", "summary",
        "refused_attaches", "last_refused_attaches", "drain", "names", "early_addresses", "last_early_addresses",
    ]  # fmt: skip
    assert given["firewall"] == {"backend": "nft", "rules": 74}
    assert given["ok"] is True
    curl.cell.problems.append(Problem("policies", "bad file", "mend it"))
    _, given = curl("GET", "/v1/status")
    assert (given["ok"], given["problems"]) == (False, [{"area": "policies", "what": "bad file", "hint": "mend it"}])


def test_sync_lists_what_is_missing(curl: Curl) -> None:
    assert curl("POST", "/v1/sync", {"timeout": 1}) == (200, {"ok": True, "missing": []})
    curl.cell.missing = ("shop.yaml",)
    assert curl("POST", "/v1/sync") == (200, {"ok": False, "missing": ["shop.yaml"]})


def test_the_ca_is_shown_without_keys(curl: Curl) -> None:
    code, given = curl("GET", "/v1/ca")
    assert code == 200
    assert (given["root"]["subject"], given["cell"]["subject"], given["root_key_here"]) == ("CN=root", "CN=cell", True)
    assert given["bundle"].startswith("-----BEGIN CERTIFICATE-----")


def test_an_attach_whose_caller_goes_away_goes_on_to_its_end(curl: Curl) -> None:
    curl.cell.waits = True
    body = json.dumps(WEB).encode()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(curl.path))
        caller.sendall(b"PUT /v1/attachments/w HTTP/1.1\r\nHost: cell\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while not curl.cell.peers:
            time.sleep(0.005)
    curl.cell.gate.set()
    while curl("GET", "/v1/attachments")[1] == []:
        time.sleep(0.005)
    assert curl.cell.cancelled == 0


def test_a_request_beyond_the_limit_is_cancelled_and_reported_as_such(tmp_path: Path) -> None:
    cell = FakeCell(waits=True)
    with serving(cell, tmp_path / "agent.sock", limit=0.05) as path:
        code, given = Curl(path, cell)("PUT", "/v1/attachments/w", WEB)
    assert (code, given["error"]["kind"], cell.cancelled, cell.views) == (503, "Unavailable", 1, {})


def test_many_clients_at_once_are_all_answered(curl: Curl) -> None:
    codes: list[int] = []

    def ask() -> None:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(curl.path))
                caller.sendall(b"GET /v1/status HTTP/1.1\r\nHost: cell\r\nConnection: close\r\n\r\n")
                codes.append(int(caller.recv(4096).split()[1]))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 400
