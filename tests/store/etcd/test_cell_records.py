"""What cells say of each other is believed as far as it can be: the rules, whatever comes in whatever order."""

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.config import Mtls
from agent.model.cell import CellRecord, Endpoint, RootsInUse
from agent.store.etcd import records
from agent.store.etcd.cells import CellsAndEndpoints
from agent.store.etcd.client import Value
from agent.store.etcd.keys import Keys
from agent.store.protocols import MOST_PUBLISHED
from agent.store.subnets import SubnetClaim
from tests.testlib.samples import ROUTE_DOMAINS, app

KEYS = Keys("/cellnet")
OVERLAY = IPv4Network("10.255.0.0/16")
LEASE = 7
Values = dict[str, Value]


def cell(number: int, *, name: str = "", id: str = "", underlay: str = "", subnet: str = "") -> CellRecord:  # noqa: A002
    subnet = subnet or f"10.255.{number}.0/24"
    underlay = underlay or f"192.0.{2 + number // 250}.{number % 250 + 1}"
    return CellRecord(name or f"cell-{number}", id or f"id-{number}", IPv4Network(subnet), IPv4Address(underlay), "0.1")


def claimed(record: CellRecord, *, revision: int = 1, released: float | None = None) -> Values:
    claim = SubnetClaim(record.id, record.name, released)
    return {KEYS.subnet(record.subnet): Value(records.encode_subnet(record.subnet, claim), revision)}


def said(record: CellRecord) -> Values:
    return {
        KEYS.record(record.name): Value(records.encode_cell(record), 2),
        KEYS.alive(record.name): Value(records.encode_alive(5.0), 2, LEASE),
    }


def runs(record: CellRecord, *last: int, of: str = "web", lease: int = LEASE) -> Values:
    made = [Endpoint(record.name, f"{of}-{each}", app(of), 0, record.subnet[each]) for each in last]
    return {KEYS.endpoints_of(each.cell) + each.name: Value(records.encode_endpoint(each), 3, lease) for each in made}


def honest(number: int) -> Values:
    record = cell(number)
    return claimed(record) | said(record) | runs(record, 2, 3)


def decoded(values: Values) -> CellsAndEndpoints:
    made = CellsAndEndpoints(KEYS, cell="cell-1", overlay=OVERLAY, domains=ROUTE_DOMAINS)
    made.update(values, values)
    return made


def names(found: CellsAndEndpoints) -> list[str]:
    return [each.record.name for each in found.cells()]


@pytest.mark.parametrize("mtls", Mtls)
def test_a_cells_record_says_how_it_takes_tcp(mtls: Mtls) -> None:
    record = replace(cell(2), mtls=mtls)
    (found,) = decoded(claimed(record) | said(record)).cells()
    assert (found.record, found.record.takes_tunnels) == (record, mtls is not Mtls.NONE)


@pytest.mark.parametrize("drained", [False, True])
def test_a_cells_record_says_whether_it_is_drained(drained: bool) -> None:
    record = replace(cell(2), drained=drained)
    values = claimed(record) | said(record)
    assert ("drained" in json.loads(values[KEYS.record("cell-2")].data)) is drained
    assert [each.record for each in decoded(values).cells()] == [record]


def test_a_record_that_says_nothing_of_mutual_tls_takes_no_tunnels() -> None:
    """As those of agents that knew none."""
    values = claimed(cell(2)) | said(cell(2))
    assert "mtls" not in json.loads(values[KEYS.record("cell-2")].data)
    assert [each.record.takes_tunnels for each in decoded(values).cells()] == [False]


def test_a_record_that_says_nothing_of_it_is_that_of_an_endpoint_that_is_ready() -> None:
    values = runs(cell(2), 2)
    assert "ready" not in json.loads(values[WEB].data)
    found = decoded(claimed(cell(2)) | said(cell(2)) | values)
    assert [each.ready for each in found.endpoints.values()] == [True]
    waiting = replace(found.endpoints[IPv4Address("10.255.2.2")], ready=False)
    values[WEB] = Value(records.encode_endpoint(waiting), 4, LEASE)
    assert list(decoded(claimed(cell(2)) | said(cell(2)) | values).endpoints.values()) == [waiting]


def test_a_cells_record_and_its_endpoints_are_believed() -> None:
    found = decoded(honest(1) | honest(2))
    assert [(each.record, each.alive_since) for each in found.cells()] == [(cell(1), 5.0), (cell(2), 5.0)]
    assert sorted(map(str, found.endpoints)) == ["10.255.1.2", "10.255.1.3", "10.255.2.2", "10.255.2.3"]
    assert found.malformed == {}


def changed(values: Values, key: str, **content: object) -> Values:
    """One record with other content."""
    old = values[key]
    return values | {key: Value(json.dumps(json.loads(old.data) | content).encode(), old.revision, old.lease)}


RECORD, WEB = KEYS.record("cell-2"), KEYS.endpoints_of("cell-2") + "web-2"
LIES: dict[str, tuple[str, dict[str, object], str]] = {
    "another's subnet": (RECORD, {"subnet": "10.255.1.0/24"}, "claimed by cell cell-1, not by it"),
    "a subnet that no cell claimed": (RECORD, {"subnet": "10.255.9.0/24"}, "claimed by no cell"),
    "part of another's subnet": (RECORD, {"subnet": "10.255.1.128/25"}, "claimed by no cell"),
    "the whole overlay": (RECORD, {"subnet": "10.255.0.0/16"}, "claimed by no cell"),
    "the world": (RECORD, {"subnet": "0.0.0.0/0"}, "overlay.network must be the same on all"),
    "another's id and subnet": (RECORD, {"id": "id-1", "subnet": "10.255.1.0/24"}, "claimed by cell cell-1, not by it"),
    "no network": (RECORD, {"subnet": "10.255.2.1/24"}, "host bits"),
    "a multicast address": (RECORD, {"underlay": "224.0.0.1"}, "cannot be a cell's address"),
    "a broadcast address": (RECORD, {"underlay": "255.255.255.255"}, "cannot be a cell's address"),
    "a loopback address": (RECORD, {"underlay": "127.0.0.1"}, "cannot be a cell's address"),
    "a link-local address": (RECORD, {"underlay": "169.254.0.1"}, "cannot be a cell's address"),
    "no address": (RECORD, {"underlay": "0.0.0.0"}, "cannot be a cell's address"),
    "an address of the overlay": (RECORD, {"underlay": "10.255.1.2"}, "is in the overlay"),
    "an address with a zero": (RECORD, {"underlay": "192.0.2.010"}, "not an IPv4 address"),
    "a number for an address": (RECORD, {"underlay": 7}, "underlay: Input should be a text"),
    "an id of control characters": (RECORD, {"id": "a\nb"}, "id: it has control characters"),
    "a mode that there is not": (RECORD, {"mtls": "some"}, "mtls: Input should be 'none', 'accept' or 'strict'"),
    "a truth for a mode": (RECORD, {"mtls": True}, "mtls: Input should be 'none', 'accept' or 'strict'"),
    "no id": (RECORD, {"id": ""}, "id: String should have at least 1 character"),
    "an endless version": (RECORD, {"version": "1" * 200}, "version: String should have at most 128 characters"),
    "a root that is no fingerprint": (RECORD, {"trusts": ["ab"]}, "trusts.0: String should match pattern"),
    "roots without end": (RECORD, {"trusts": ["ab" * 32] * 129}, "trusts: Tuple should have at most 128 items"),
    "roots that are no list": (RECORD, {"signs_with": "ab" * 32}, "signs_with: Input should be a valid array"),
    "a number for a root": (RECORD, {"signs_with": [7]}, "signs_with.0: Input should be a valid string"),
    "a line below a root": (RECORD, {"signs_with": ["ab" * 32 + "\n"]}, "signs_with.0: String should match pattern"),
    "another's container": (WEB, {"address": "10.255.1.2"}, "no container's of 10.255.2.0/24"),
    "an address outside": (WEB, {"address": "192.0.2.1"}, "no container's of"),
    "the cell's own address": (WEB, {"address": "10.255.2.1"}, "no container's of"),
    "the tunnel's address": (WEB, {"address": "10.255.2.0"}, "no container's of"),
    "the broadcast address": (WEB, {"address": "10.255.2.255"}, "no container's of"),
    "no app": (WEB, {"app": "web"}, "not an app's name"),
    "a number out of range": (WEB, {"instance": -1}, "instance: Input should be greater than or equal to 0"),
    "a truth for a number": (WEB, {"instance": True}, "instance: Input should be a valid integer"),
    "a port out of range": (WEB, {"ports": [0]}, "ports.0: port 0 is out of range"),
    "a word for a port": (WEB, {"ports": ["x"]}, "ports.0: 'x' is not a port"),
    "a port of no protocol": (WEB, {"ports": ["53/sctp"]}, "ports.0: '53/sctp' is not a port"),
    "a truth for a port": (WEB, {"ports": [True]}, "ports.0: Input should be a text"),
    "a text for readiness": (WEB, {"ready": "no"}, "ready: Input should be a valid boolean"),
    "ports that are no list": (WEB, {"ports": 8080}, "ports: Input should be a valid array"),
    "a route that is no name": (WEB, {"routes": ["../../etc"]}, "not a route"),
    "a route of the world": (WEB, {"routes": ["google.com"]}, "'google.com' lies below no route domain"),
    "an app's own name": (WEB, {"routes": ["api.shop.acme.cell.internal"]}, "where only the apps' own names are"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_left_out_and_named_and_honest_cells_stay(lie: str) -> None:
    key, content, why = LIES[lie]
    found = decoded(changed(honest(1) | honest(2), key, **content))
    assert found.malformed.keys() == {key}
    assert why in found.malformed[key]
    assert names(found) == (["cell-1"] if key == RECORD else ["cell-1", "cell-2"])
    theirs = [str(address) for address, each in found.endpoints.items() if each.cell == "cell-2"]
    assert theirs == ([] if key == RECORD else ["10.255.2.3"])
    assert [address for address in map(str, found.endpoints) if address.startswith("10.255.1.")] == ["10.255.1.2", "10.255.1.3"]


ENDLESS = b"1" + b"0" * 400  # no float holds it


@pytest.mark.parametrize("time", [ENDLESS, b"1e300", b"-1", b"253402300800"])
def test_a_time_that_no_calendar_has_is_left_out_and_stops_no_other(time: bytes) -> None:
    claim = b'{"cell": "id-2", "name": "cell-2", "prefix": 24, "released": ' + time + b"}"
    for key, data in ((KEYS.alive("cell-2"), b'{"since": ' + time + b"}"), (KEYS.subnet(cell(2).subnet), claim)):
        assert key in decoded(honest(1) | honest(2) | {key: Value(data, 9, LEASE)}).malformed
    with pytest.raises(records.MalformedRecord):
        records.decode_tag(Value(b'{"tag": 7, "released": ' + time + b"}", 9))


@pytest.mark.parametrize(
    "data", [b"", b"x", b"[]", b"{}", b"[" * 100_000, b"\xff", b"NaN", b'{"since": NaN}', b'{"since": true}']
)
def test_nonsense_is_left_out_and_named(data: bytes) -> None:
    record = cell(2)
    keys = (RECORD, KEYS.alive("cell-2"), WEB, KEYS.subnet(record.subnet))
    for key in keys:
        found = decoded(honest(1) | honest(2) | {key: Value(data, 9, LEASE)})
        assert key in found.malformed
        assert names(found)[:1] == ["cell-1"]
        assert len([address for address in found.endpoints if address in cell(1).subnet]) == 2


def test_a_cell_that_gives_signs_of_life_is_known_to_live_whatever_it_or_others_say_of_it() -> None:
    everyone = honest(1) | honest(2) | honest(3)
    liar = replace(cell(3), roots=RootsInUse(("ab" * 32,), ("cd" * 32,)))
    values = changed(everyone, RECORD, underlay="127.0.0.1") | said(liar)
    values |= claimed(cell(1, subnet=str(cell(3).subnet)))  # an honest cell, whose claim the first has taken over
    found = decoded(values)
    assert names(found) == ["cell-1"]
    assert found.giving_signs() == {"cell-1": cell(1), "cell-2": None, "cell-3": liar}
    gone = values.keys() - {KEYS.alive("cell-3")}
    assert decoded({key: values[key] for key in gone}).giving_signs().keys() == {"cell-1", "cell-2"}


def test_what_hangs_on_no_lease_is_left_out_as_it_would_never_go() -> None:
    for key in (KEYS.alive("cell-2"), WEB):
        values = honest(1) | honest(2)
        found = decoded(values | {key: Value(values[key].data, 3)})
        assert "no lease" in found.malformed[key]
        assert IPv4Address("10.255.2.2") not in found.endpoints


def test_of_two_claims_that_overlap_the_older_one_holds() -> None:
    wide = cell(2, subnet="10.255.0.0/20")
    narrow = claimed(cell(1), revision=5) | said(cell(1)) | runs(cell(1), 2)
    for revision, expected in ((9, ["cell-1"]), (3, ["cell-2"])):
        found = decoded(narrow | claimed(wide, revision=revision) | said(wide))
        assert names(found) == expected
        assert any("overlaps" in why for why in found.malformed.values())
    gone = claimed(cell(1), revision=3, released=1.0) | claimed(wide, revision=9) | said(wide)
    assert names(decoded(gone)) == ["cell-2"]


def moved(number: int, *, to: int, revision: int) -> Values:
    """A cell that gives another's underlay address as its own."""
    record = replace(cell(number), underlay=cell(to).underlay)
    return {KEYS.record(record.name): Value(records.encode_cell(record), revision)}


def test_an_underlay_address_stays_with_the_living_cell_that_had_it_first() -> None:
    values = honest(1) | honest(2) | honest(3)
    found = decoded(values)
    values |= moved(3, to=2, revision=8)
    found.update([KEYS.record("cell-3")], values)
    newer = replace(cell(2), version="0.2")
    values[KEYS.record("cell-2")] = Value(records.encode_cell(newer), 9)
    found.update([KEYS.record("cell-2")], values)
    assert [each.record for each in found.cells()] == [cell(1), newer]
    assert found.malformed == {KEYS.record("cell-3"): f"its underlay address {cell(2).underlay} is that of cell cell-2"}
    assert {each.cell for each in found.endpoints.values()} == {"cell-1", "cell-2"}
    late = decoded({})
    late.update(values, values, first=found.underlays.shared())
    assert late.cells() == found.cells(), "as after a restart"
    assert names(decoded(values)) == ["cell-1", "cell-3"], "without that, the older record counts"


def test_a_living_cell_has_the_address_that_a_dead_one_had() -> None:
    values = honest(1) | honest(2) | honest(3) | moved(3, to=2, revision=8)
    found = decoded(values)
    alive = {key: values.pop(key) for key in [KEYS.alive("cell-2")]}
    found.update(alive, values)
    assert names(found) == ["cell-1", "cell-3"]
    found.update(alive, values | alive)
    assert names(found) == ["cell-1", "cell-2"]


def test_this_cells_own_underlay_address_is_no_others_whatever_came_first() -> None:
    values = honest(1) | honest(2) | moved(2, to=1, revision=1)
    values[KEYS.record("cell-1")] = Value(values[KEYS.record("cell-1")].data, 9)
    assert names(decoded(values)) == ["cell-1"]


def test_a_record_that_holds_for_another_reason_not_keeps_no_address() -> None:
    values = honest(1) | honest(2) | honest(3) | moved(3, to=2, revision=1)
    assert names(decoded(values)) == ["cell-1", "cell-3"]
    del values[KEYS.subnet(cell(3).subnet)]
    assert names(decoded(values)) == ["cell-1", "cell-2"]


def test_a_record_whose_subnet_was_given_back_is_left_out() -> None:
    assert names(decoded(said(cell(1)) | claimed(cell(1), released=1.0))) == []


def test_an_address_that_two_endpoints_of_a_cell_claim_is_the_firsts() -> None:
    values = honest(1) | changed(honest(2), KEYS.endpoints_of("cell-2") + "web-3", address="10.255.2.2", app="a/b/c")
    found = decoded(values)
    assert found.endpoints[IPv4Address("10.255.2.2")].name == "web-2"
    assert "is that of web-2 too" in found.malformed[KEYS.endpoints_of("cell-2") + "web-3"]


def test_an_endpoint_without_a_living_cell_is_nowhere() -> None:
    values = honest(1) | honest(2)
    for missing in (RECORD, KEYS.alive("cell-2"), KEYS.subnet(cell(2).subnet)):
        found = decoded({key: value for key, value in values.items() if key != missing})
        assert {each.cell for each in found.endpoints.values()} == {"cell-1"}


PIECES: list[Values] = [
    *({key: value} for number in (1, 2) for key, value in honest(number).items()),
    claimed(cell(1), released=1.0),
    claimed(cell(3, subnet="10.255.0.0/20"), revision=4),
    said(cell(3, subnet="10.255.0.0/20")),
    said(cell(1, name="renamed")),
    claimed(cell(1, name="renamed"), revision=6),
    runs(cell(2), 2, of="api"),
    changed(runs(cell(2), 2), WEB, address="10.255.1.3"),
    {RECORD: Value(b"nonsense", 8)},
    {KEYS.subnet(cell(2).subnet): Value(b"{}", 8)},
]
step = st.tuples(st.sampled_from(range(len(PIECES))), st.booleans())


@settings(max_examples=150, deadline=None)
@given(batches=st.lists(st.lists(step, max_size=4), max_size=12))
def test_changes_one_by_one_and_a_reading_of_everything_come_to_the_same(batches: list[list[tuple[int, bool]]]) -> None:
    values: Values = {}
    kept = CellsAndEndpoints(KEYS, cell="cell-1", overlay=OVERLAY, domains=ROUTE_DOMAINS)
    for batch in batches:
        keys = set[str]()
        for number, there in batch:
            keys |= PIECES[number].keys()
            values = {key: value for key, value in values.items() if key not in PIECES[number]}
            values |= PIECES[number] if there else {}
        before, known = dict(kept.endpoints), kept.cells()
        kept.take_departed()
        news = kept.update(keys, values)
        new = decoded(values)
        assert (kept.cells(), kept.endpoints, kept.malformed) == (new.cells(), new.endpoints, new.malformed)
        assert set(kept.names) == set(new.names)
        assert news or (before == kept.endpoints and known == kept.cells())
        assert kept.take_departed() == departed(before, dict(kept.endpoints))
        assert kept.cells() is kept.cells()


def departed(before: dict[IPv4Address, Endpoint], after: dict[IPv4Address, Endpoint]) -> set[IPv4Address]:
    """Of others' only."""
    gone = {address for address, each in before.items() if address not in after or after[address].app != each.app}
    return {address for address in gone if before[address].cell != "cell-1"}


def test_one_change_among_a_thousand_cells_judges_the_cell_that_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    values: Values = {}
    for number in range(1000):
        record = cell(number, subnet=str(IPv4Network((int(IPv4Address("10.255.0.0")) + 64 * number, 26))))
        values |= claimed(record, revision=number) | said(record) | runs(record, *range(2, 22))
    begun = time.perf_counter()
    kept = decoded(values)
    print(f"1,000 cells with 20 endpoints each, {len(values)} records: {time.perf_counter() - begun:.2f} s")
    assert (len(kept.cells()), len(kept.endpoints), kept.malformed) == (1000, 20_000, {})
    judged: list[str] = []
    monkeypatch.setattr(kept, "_judge_cell", _noting(judged, kept))
    known = kept.cells()
    for changes in changes_of(values):
        begun = time.perf_counter()
        kept.update(changes, values | changes)
        print(f"  one change of {next(iter(changes))}: {(time.perf_counter() - begun) * 1000:.2f} ms")
    assert judged == ["cell-7", "cell-7"], "an endpoint concerns no cell's record"
    assert kept.cells() is not known
    assert kept.cells()[:3] == known[:3]


def changes_of(values: Values) -> Iterable[Values]:
    """An endpoint, a sign of life, a claim, each of cell-7."""
    record = cell(7, subnet="10.255.1.192/26")
    yield runs(record, 2, of="api")
    yield {KEYS.alive(record.name): Value(records.encode_alive(9.0), 9, LEASE)}
    yield {KEYS.subnet(record.subnet): Value(values[KEYS.subnet(record.subnet)].data, 2000)}


def _noting(judged: list[str], kept: CellsAndEndpoints):  # type: ignore[no-untyped-def]
    really = kept._judge_cell

    def judge(name: str) -> bool:
        judged.append(name)
        return really(name)

    return judge


def test_what_a_cell_says_of_its_policy_files_is_bounded_and_a_change_of_it_is_one() -> None:
    cells, key = CellsAndEndpoints(KEYS, cell="cell-1", overlay=OVERLAY), KEYS.file_policies("cell-2")
    assert cells.update([key], {key: Value(b"some", 1)})
    assert (cells.published_policies(), cells.malformed) == ({"cell-2": b"some"}, {})
    assert cells.update([key], {key: Value(bytes(MOST_PUBLISHED + 1), 2)})
    assert (cells.published_policies(), list(cells.malformed)) == ({}, [key])
    assert cells.update([key], {})
    assert (cells.published_policies(), cells.malformed, list(cells.names)) == ({}, {}, [])
