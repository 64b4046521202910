"""What the page's server refuses: others' pages, names that lead to this host, used tokens, users who did not call it."""

import os
import socket
import subprocess
from contextlib import closing, suppress
from http.client import HTTPConnection, RemoteDisconnected
from ipaddress import IPv4Address

import pytest

from agent.bounded_visitor import CONNECTIONS
from agent.ui.door import HEADERS, is_address
from agent.ui.server import FILES, QUESTIONS
from agent.ui.visitors import owner, users_of
from dataplane.flows.sockdiag import Ends
from tests.testlib.patience import eventually
from tests.ui.conftest import Serve, Visitor

LOOPBACK = IPv4Address("127.0.0.1")
CHANGE = {"from": "acme/shop/web", "to": "acme/shop/api", "ports": ["tcp/8080"]}


def test_the_token_is_good_once_and_its_session_lasts(serve: Serve) -> None:
    one = serve()
    assert one("GET", "/v1/status").status == 401
    assert one("POST", "/enter", "guessed").status == 401
    entered = one.enter()
    assert entered.status == 200
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(entered.headers["Set-Cookie"].split("; "))
    assert one("GET", "/v1/status").status == 200
    again = one("POST", "/enter", one.served.token)
    assert again.status == 401
    assert "used already" in again.json["error"]["what"]


def test_what_is_malformed_is_answered_and_leaves_nothing_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    port = serve().served.listen.port
    for request in (
        b"GET / HTTP/1.1\r\nHost\0: x\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as called:
            called.sendall(request)
            assert called.recv(64).startswith(b"HTTP/1.0 400")
    assert [each.getMessage() for each in caplog.records] == []


def test_nothing_of_the_cell_is_shown_without_the_session(serve: Serve) -> None:
    one = serve()
    one.enter()
    for name in (*QUESTIONS, "events", "me", "changes"):
        assert one("GET", f"/v1/{name}", Cookie="").status == 401, name
        assert one("GET", f"/v1/{name}", Cookie=f"cellnet-{one.served.listen.port}=guessed").status == 401, name
    assert one("POST", "/v1/changes", CHANGE, Cookie="").status == 401


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8480", "127.0.0.1.example", "evil@127.0.0.1", ""])
def test_a_name_that_leads_to_this_host_is_refused(visitor: Visitor, host: str) -> None:
    assert visitor("GET", "/v1/status", Host=host or " ").status == 403
    assert visitor("GET", "/", Host=host or " ").status == 403


def test_the_port_of_a_tunnel_is_taken() -> None:
    assert all(map(is_address, ("127.0.0.1:9000", "localhost:9000", "localhost", "192.0.2.7:8480")))
    assert not any(map(is_address, ("", "localhost.example", "127.0.0.1:x", "127.0.0.1/", "127.1.example:80")))


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec_Fetch_Site": "cross-site"},
     {"Sec_Fetch_Site": "same-site"}],
)  # fmt: skip
def test_what_another_page_sends_is_refused_with_the_session_too(visitor: Visitor, headers: dict[str, str]) -> None:
    assert visitor("GET", "/v1/status", **headers).status == 403
    assert visitor("POST", "/v1/changes", CHANGE, **headers).status == 403


def test_a_change_says_which_page_it_comes_from_and_no_get_changes_anything(visitor: Visitor) -> None:
    assert visitor("POST", "/v1/changes", CHANGE, Origin="").status == 403
    assert visitor("GET", "/v1/policies/allow").status == 404
    assert visitor("POST", "/v1/policies/allow", CHANGE).status == 404
    assert visitor("DELETE", "/v1/attachments/web").status == 404
    assert visitor("GET", "/v1/changes/1/undo").status == 405


def test_only_the_files_of_the_page_are_served_with_a_policy_that_allows_no_foreign_script(visitor: Visitor) -> None:
    for name in ("", *FILES[1:]):
        given = visitor("GET", f"/{name}", Cookie="")
        assert given.status == 200
        policy = given.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert given.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("server.py", "../server.py", "%2e%2e/server.py", "page/", "index.html"):
        assert visitor("GET", f"/{name}").status == 404, name


@pytest.mark.parametrize("address", ["/", "/none", "/v1/status", "/v1/events?kind=none", "/v1/changes", "/enter"])
def test_no_answer_lacks_what_keeps_other_pages_from_it(visitor: Visitor, address: str) -> None:
    assert visitor("GET", address).headers.items() >= HEADERS.items()


def test_nor_does_what_is_told_as_it_happens(visitor: Visitor) -> None:
    connection = HTTPConnection("127.0.0.1", visitor.served.listen.port, timeout=20)
    connection.request("GET", "/v1/events", headers={"Cookie": visitor.cookie})
    with closing(connection), connection.getresponse() as told:
        assert told.status == 200
        assert dict(told.getheaders()).items() >= HEADERS.items()


def test_a_reader_may_look_at_what_a_change_would_do_and_make_none(serve: Serve) -> None:
    reader = serve(may_change=False)
    reader.enter()
    assert reader("GET", "/v1/me").json == {"may_change": False}
    assert reader("POST", "/v1/changes/preview", CHANGE).status == 200
    refused = reader("POST", "/v1/changes", CHANGE)
    assert refused.status == 403
    assert refused.json["error"]["hint"] == "sudo cellnet ui"
    assert reader("POST", "/v1/explain/try", {"from": "acme/shop/web", "to": "acme/shop/api", "port": "tcp/80"}).status == 403
    assert reader("GET", "/v1/policies").json == []


def test_a_body_is_bounded(visitor: Visitor) -> None:
    assert visitor("POST", "/v1/changes", {**CHANGE, "note": "x" * 70_000}).status == 413


def test_another_users_connection_is_cut(serve: Serve) -> None:
    """A token that another user of this host has seen is of no use to that user."""
    one = serve()
    address = f"http://127.0.0.1:{one.served.listen.port}/"
    as_other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    call = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", address]
    assert subprocess.run(call, capture_output=True).stdout == b"200"
    assert subprocess.run([*as_other, *call], capture_output=True).stdout == b"000"
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        serve(users=frozenset({65534}))("GET", "/")


def test_a_socket_that_its_process_has_closed_is_nobodys() -> None:
    """What is on its way still would be read; older kernels call such a socket root's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = socket.create_connection(server.getsockname())
        ends = Ends(LOOPBACK, made.getsockname()[1], LOOPBACK, server.getsockname()[1])
        assert owner(ends) == os.geteuid()
        made.setblocking(False)
        with suppress(BlockingIOError):
            while made.send(bytes(1 << 20)):
                pass
        made.close()
        assert owner(ends) is None


def test_the_browser_is_that_of_the_user_who_called_sudo() -> None:
    assert users_of({"SUDO_UID": "1000"}, uid=0) == {0, 1000}
    assert users_of({"SUDO_UID": "0"}, uid=1000) == {1000}
    assert users_of({"SUDO_UID": "x"}, uid=0) == {0}


def test_connections_are_bounded_and_come_free_again(serve: Serve) -> None:
    one = serve()
    held = [HTTPConnection("127.0.0.1", one.served.listen.port) for _ in range(CONNECTIONS)]
    for each in held:
        each.connect()
        each.request("GET", "/icon.svg")
        each.getresponse().read()
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        one("GET", "/icon.svg")
    for each in held:
        each.close()

    def answers() -> bool:
        try:
            return one("GET", "/icon.svg").status == 200
        except (RemoteDisconnected, ConnectionResetError):
            return False

    eventually(answers)
