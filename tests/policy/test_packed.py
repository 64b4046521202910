"""What a cell publishes of its policy files is read by others as it was written, within bounds, and never trusted."""

import base64
import json
import zlib
from dataclasses import replace

import pytest

from agent.errors import InvalidInput
from agent.model.outside import NOTHING_INSIDE
from agent.model.policy import Origin, Policy
from agent.policy.language.language import parse
from agent.policy.packed import MOST_TEXT, Unpacked, pack, unpack
from agent.store.protocols import MOST_PUBLISHED

FILE = "/etc/cellnet/policies.d/shop.yaml"
TEXT = """policies:
- {from: acme/shop/web, to: acme/shop/api, tcp: [80, 9000-9010], udp: any, note: für alle}
- {name: out, from: acme/shop/*, to: {cidr: [192.0.2.0/24], except: [192.0.2.9/32]}, tcp: 443, until: 2030-01-01T00:00Z}
- {from: [same-space, acme/*/*], to: acme/shop/*, icmp: echo, mode: audit}
- {from: {cidr: 0.0.0.0/0}, to: acme/shop/web, tcp: 80}
- {from: acme/shop/web, to: {host: ["*.example.org"]}, tcp: 443}
"""
GOOD = "policies: [{name: p, from: acme/shop/web, to: acme/shop/api, tcp: 80}]"


def read(data: bytes, *, cell: str = "cell-2") -> Unpacked:
    return unpack(data, cell=cell, inside=NOTHING_INSIDE)


def rows(*found: object, left_out: object = 0) -> bytes:
    text = json.dumps(found).encode()
    return json.dumps({"left_out": left_out, "policies": base64.b64encode(zlib.compress(text)).decode()}).encode()


def there(policy: Policy) -> Policy:
    return replace(policy, origin=Origin(f"cell-2:{FILE}", policy.origin.line, policy.origin.column))


def test_policies_are_read_as_they_were_written_and_their_place_names_the_cell() -> None:
    policies = parse(TEXT.encode(), source=FILE)
    assert read(pack(policies)) == Unpacked(tuple(map(there, policies)))
    assert pack(policies) == pack(parse(TEXT.encode(), source=FILE))
    assert read(pack(())) == Unpacked()


def test_what_does_not_fit_is_counted() -> None:
    many = "".join(f"- {{from: acme/shop/web-{each * 7919 % 99991}, to: acme/s{each % 97}/api, tcp: {1 + each * 31 % 60000}}}\n"
                   for each in range(12_000))  # fmt: skip
    policies = parse(f"policies:\n{many}".encode(), source=FILE)
    data = pack(policies)
    assert len(data) <= MOST_PUBLISHED
    found = read(data)
    assert 1_000 < len(found.policies) == 12_000 - found.left_out
    assert found.policies[0] == there(policies[0])


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b'{"left_out": 0, "policies": "!"}', b'{"left_out": 0, "policies": "AAAA"}', rows(1),
     rows("abcde", 2), rows([1, 2, "x", 4, "{}"][:3]), rows(left_out="x"), b"[" * 100_000,
     json.dumps({"left_out": 0, "policies": base64.b64encode(zlib.compress(b"[]" + b" " * MOST_TEXT)).decode()}).encode()],
)  # fmt: skip
def test_what_is_no_such_record_is_refused_with_its_cell(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="what cell-2 says of its policy files makes no sense"):
        read(data)


@pytest.mark.parametrize(
    "number", ["Infinity", "-Infinity", "NaN", "1e999", "9" * 4300, "-1", "1.5", "true", "null", '"1"', "[]", "{}"]
)
def test_no_number_that_a_cell_writes_breaks_a_reader(number: str) -> None:
    with pytest.raises(InvalidInput, match="makes no sense"):
        read(rows(left_out="#").replace(b'"#"', number.encode()))
    for place in (f"{number}, 1", f"1, {number}", "0, 1"):
        text = f'[["p", "f", {place}, {json.dumps(GOOD)}]]'.encode()
        with pytest.raises(InvalidInput, match="makes no sense"):
            read(json.dumps({"left_out": 0, "policies": base64.b64encode(zlib.compress(text)).decode()}).encode())


def test_a_policy_that_cannot_be_read_is_left_out_alone_and_no_text_reaches_a_terminal_raw() -> None:
    (good,) = parse(b"policies: [{name: p, from: acme/shop/web, to: acme/shop/api, tcp: 80}]", source=FILE)
    text = json.loads(zlib.decompress(base64.b64decode(json.loads(pack([good]))["policies"])))[0][4]
    found = read(rows(["\x1b[2J" + "n" * 999, "\x1b]0;x", 1, 2, text], ["b", FILE, 1, 1, "policies: ["], left_out=3))
    assert found.left_out == 4
    (policy,) = found.policies
    assert policy.name.startswith("?[2J")
    assert len(policy.name) == 256
    assert policy.origin == Origin("cell-2:?]0;x", 1, 2)
