"""Who changed what through the API is told to the history, and what was refused with the reason; never what is secret."""

import os

from agent.control.changes import REFUSED, TOLD
from agent.errors import HostRefused
from agent.insight.history.on_disk import HistoryEntry
from tests.control.conftest import Curl
from tests.testlib.fakes.cell import routes_of

ALLOW = {"from": "acme/shop/web", "to": "acme/shop/api", "ports": ["tcp/8080"], "name": "web-to-api"}
SECRET = "correct-horse"
READING = {
    ("POST", "/v1/policies/diff"),
    ("POST", "/v1/policies/validate"),
    ("POST", "/v1/sync"),
    ("POST", "/v1/containers/keep"),
}
"""What has a body and changes nothing, and what only says that an engine still has its containers."""


def entries(curl: Curl) -> list[HistoryEntry]:
    return [each for each in curl.cell.history._backwards(None) if each is not None][::-1]


def told(curl: Curl) -> list[str]:
    return [each.what for each in entries(curl)]


def test_changes_of_policies_are_told_with_their_names_and_the_process_that_asked(curl: Curl) -> None:
    assert curl("POST", "/v1/policies/allow", ALLOW)[0] == 201
    (entry,) = entries(curl)
    assert (entry.area, entry.what) == ("policies", "policy put into the store: web-to-api")
    assert entry.by is not None
    assert (entry.by.uid, entry.by.command) == (os.getuid(), "curl")
    assert curl("DELETE", "/v1/policies/web-to-api")[0] == 200
    curl("DELETE", "/v1/policies/web-to-db")
    assert told(curl)[1:] == [
        "policy deleted from the store: web-to-api",
        "refused, policy deleted from the store: web-to-db: it is not there",
    ]


def test_what_was_refused_is_told_with_the_reason(curl: Curl) -> None:
    curl.cell.fails = HostRefused("the disk is full", hint="make room")
    assert curl("DELETE", "/v1/cells/two")[0] == 502
    assert curl("DELETE", "/v1/attachments/web")[0] == 502
    assert curl("POST", "/v1/policies/allow", {"ports": 7})[0] == 400
    assert told(curl)[:2] == [
        "refused, cell removed from the store: two: the disk is full", "refused, detach: web: the disk is full",
    ]  # fmt: skip
    assert told(curl)[2].startswith("refused, policy put into the store: field 'from' is missing")


def test_what_is_done_all_the_time_and_what_only_reads_is_not_told(curl: Curl) -> None:
    assert curl("DELETE", "/v1/attachments/web")[0] == 200
    assert curl("GET", "/v1/status")[0] == 200
    assert curl("POST", "/v1/policies/diff", {})[0] == 200
    assert curl("POST", "/v1/policies/validate", {})[0] == 200
    assert told(curl) == []


def test_no_secret_of_a_request_is_told(curl: Curl) -> None:
    user = {"username": "operator", "password": SECRET}
    for method, address, body in (
        ("POST", "/v1/policies/allow", ALLOW), ("POST", "/v1/policies/allow", {**ALLOW, "ports": SECRET}),
        ("DELETE", "/v1/cells/two", {}), ("POST", "/v1/ca/trust", {"roots": SECRET}),
    ):  # fmt: skip
        curl(method, address, {**body, "store_credentials": user})
    curl("POST", "/v1/policies/allow", {**ALLOW, "store_credentials": {"password": SECRET}})
    assert len(told(curl)) == 5
    assert SECRET not in str(entries(curl))


def test_every_address_that_changes_something_is_told_of(curl: Curl) -> None:
    known = TOLD.keys() | REFUSED.keys() | READING
    found = {(each.method, each.path) for each in routes_of(curl.cell) if each.method != "GET"}
    assert found - known == set()
    assert (TOLD.keys() | REFUSED.keys()) - found == set()
