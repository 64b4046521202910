"""Each change of the store's policies leaves in the store who made it; the change does not hang on that."""

import json
import os

from agent.errors import HostRefused
from tests.control.conftest import Curl

ALLOW: dict[str, object] = {"from": "acme/shop/web", "to": "acme/shop/api", "ports": ["tcp/8080"], "name": "web-to-api"}
SECRET = "correct-horse"
POLICY = "policies:\n- {name: NAME, from: acme/shop/web, to: acme/shop/api, tcp: 8080}\n"


def test_each_way_to_change_policies_is_told_with_the_process_and_the_stores_user(curl: Curl) -> None:
    user = {"store_credentials": {"username": "operator", "password": SECRET}}
    assert curl("POST", "/v1/policies/allow", {**ALLOW, **user})[0] == 201
    assert curl("POST", "/v1/policies/apply", {"document": POLICY.replace("NAME", "a")})[0] == 200
    rule = {"from": "acme/shop/web", "to": "acme/shop/api", "tcp": [80]}
    curl("PUT", "/v1/policies/b", rule)
    assert curl("DELETE", "/v1/policies/web-to-api", user)[0] == 200
    assert curl("DELETE", "/v1/policies/nothing", user)[0] == 404
    assert curl("POST", "/v1/policies/accept-loss", user)[0] == 200
    code, found = curl("GET", "/v1/policies/changes")
    assert code == 200
    told = [(each["done"], each["names"], each["user"]) for each in found]
    assert told[0] == ("put", ["web-to-api"], "operator")
    assert told[1][0] == told[2][0] == "put"
    assert told[3] == ("deleted", ["web-to-api"], "operator")
    assert told[4][0] == "given up"
    assert len(told) == 5
    assert {(each["uid"], each["command"], each["cell"]) for each in found} == {(os.getuid(), "curl", "one")}
    assert SECRET not in json.dumps(found)


def test_a_change_stands_though_the_store_does_not_take_who_made_it_and_that_is_told(curl: Curl) -> None:
    curl.cell.trail.fails = HostRefused("etcd does not let 'operator' do this")
    assert curl("POST", "/v1/policies/allow", ALLOW)[0] == 201
    code, found = curl("GET", "/v1/history?area=policies")
    assert code == 200
    assert "the store has not taken who changed a policy: etcd does not let 'operator' do this" in [
        each["what"] for each in found["events"]
    ]


def test_what_makes_no_sense_in_the_store_is_left_out(curl: Curl) -> None:
    curl("POST", "/v1/policies/allow", ALLOW)
    curl.cell.trail.held[:0] = [b"", b"{}", b"\xff", json.dumps({"at": "noon"}).encode()]
    assert len(curl("GET", "/v1/policies/changes")[1]) == 1
