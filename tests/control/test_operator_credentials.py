"""Requests with an operator's rights for the store, and the addresses about all cells, over a real socket."""

import json
import subprocess
from pathlib import Path

import pytest

from agent.model.credentials import StoreCredentials
from tests.control.conftest import Curl

SECRET = "correct-horse"
USER = {"username": "operator", "password": SECRET}
ALLOW: dict[str, object] = {"from": "acme/shop/web", "to": "acme/shop/api", "ports": ["tcp/8080"]}
CHANGES: list[tuple[str, str, dict[str, object]]] = [
    ("POST", "/v1/policies/allow", ALLOW),
    ("POST", "/v1/policies/accept-loss", {}),
    ("POST", "/v1/policies/apply", {"document": "policies: []"}),
    ("DELETE", "/v1/policies/web-to-api", {}),
    ("DELETE", "/v1/cells/two", {}),
    ("POST", "/v1/ca/trust", {}),
]


def test_every_change_of_the_store_can_bring_its_own_rights_and_none_is_logged(curl: Curl) -> None:
    for method, address, body in CHANGES:
        code, _ = curl(method, address, {**body, "store_credentials": USER})
        assert code < 300
    assert curl.cell.operators == [StoreCredentials(username="operator", password=SECRET)] * len(CHANGES)
    assert len(curl.cell.log) == len(CHANGES)
    assert SECRET not in str(curl.cell.log) + repr(curl.cell.operators)


def test_without_them_it_is_the_cell_that_acts(curl: Curl) -> None:
    for method, address, body in CHANGES:
        assert curl(method, address, body or None)[0] < 300
    assert curl.cell.operators == [None] * len(CHANGES)


def test_a_certificate_comes_with_its_key(curl: Curl) -> None:
    pair = {"cert": "CERTIFICATE", "key": SECRET}
    assert curl("POST", "/v1/policies/allow", {**ALLOW, "store_credentials": pair})[0] == 201
    assert curl.cell.operators == [StoreCredentials(cert="CERTIFICATE", key=SECRET)]
    assert SECRET not in repr(curl.cell.operators)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"username": "operator"},
        {"password": SECRET},
        {"cert": SECRET},
        {**USER, "key": SECRET},
        {"username": "operator", "password": ""},
        {**USER, "pasword": SECRET},
        {"username": "operator", "password": [SECRET]},
        SECRET,
    ],
)
def test_half_of_them_is_refused_without_a_word_of_the_secret(curl: Curl, given: object) -> None:
    code, told = curl("POST", "/v1/policies/allow", {**ALLOW, "store_credentials": given})
    assert (code, told["error"]["kind"]) == (400, "InvalidInput")
    assert SECRET not in json.dumps(told) + str(curl.cell.log)
    assert curl.cell.operators == []


def test_a_bug_shows_no_secret(curl: Curl) -> None:
    curl.cell.fails = KeyError("x")
    assert curl("POST", "/v1/ca/trust", {"store_credentials": USER})[0] == 500
    assert SECRET not in str(curl.cell.log)


def test_cells_are_listed_and_removed(curl: Curl) -> None:
    one = {
        "name": "one", "underlay": "192.0.2.3", "subnet": "10.255.3.0/24", "alive_since": "2030-01-02T03:04:05Z",
        "version": "0.1.0", "mtls": "strict", "drained": False, "here": True,
    }  # fmt: skip
    two = {**one, "name": "two", "alive_since": None, "mtls": "none", "here": False}
    assert curl("GET", "/v1/cells") == (200, [one, two])
    assert curl("DELETE", "/v1/cells/two") == (200, {"removed": True})
    assert curl("GET", "/v1/cells") == (200, [one])
    code, told = curl("DELETE", "/v1/cells/tow")
    assert (code, told["error"]["hint"]) == (404, "did you mean 'two'?")


def test_roots_are_published_the_own_one_unless_some_are_given(curl: Curl) -> None:
    code, told = curl("POST", "/v1/ca/trust")
    assert (code, [each["subject"] for each in told["roots"]]) == (200, ["CN=root"])
    curl("POST", "/v1/ca/trust", {"roots": "PEM", "add": True})
    assert curl.cell.published == [(None, False), ("PEM", True)]
    assert curl("POST", "/v1/ca/trust", {"roots": ""})[0] == 400


def test_a_reader_may_see_the_cells_and_change_nothing(curl: Curl, tmp_path: Path) -> None:
    def as_daemon(*words: str) -> str:
        argv = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "curl", "-s", "--unix-socket", str(curl.path)]
        return subprocess.run([*argv, *words], capture_output=True, timeout=30, text=True).stdout

    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    assert len(json.loads(as_daemon("http://cell/v1/cells"))) == 2
    assert "Forbidden" in as_daemon("-X", "DELETE", "http://cell/v1/cells/two")
    assert "Forbidden" in as_daemon("-d", "{}", "http://cell/v1/ca/trust")
    assert curl.cell.operators == []
