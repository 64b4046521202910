"""The book of attachments: names, instances, addresses, phases, and what survives a reopening."""

import sqlite3
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from uuid import UUID

import pytest

from agent.errors import Bug, Conflict
from agent.model.app_port import AppPort
from agent.model.attachment import AttachRequest, Phase
from agent.model.key_owner import ROOT, KeyOwner
from agent.model.owner import NamespaceOwner
from agent.store.database import Database
from agent.store.ledger import Ledger
from agent.store.schema import MIGRATIONS, migrate
from dataplane.state import Limits, TargetHttp
from tests.testlib.samples import FIRST, OWNER, app, request

SUBNET = IPv4Network("10.255.1.0/24")


def attach(ledger: Ledger, name: str) -> IPv4Address:
    return ledger.begin(request(name), owner=OWNER).address


def detach(ledger: Ledger, name: str, *, now: float = 0.0) -> None:
    ledger.begin_detach(name)
    ledger.finish_detach(name, now=now)


def test_an_attachment_is_written_down_before_it_is_made(ledger: Ledger) -> None:
    owner = NamespaceOwner(Path("/run/netns/x"), 4, 4026532281, "b1")
    asked = AttachRequest(
        name="web.0_a-b",
        app=app("web"),
        netns=Path("/run/netns/x"),
        instance=3,
        interface="net0",
        ports=(AppPort(8080), AppPort(53, "udp"), AppPort(9090)),
        routes=("web.apps.internal",),
        tls_target=9090,
        tls_http=TargetHttp.HTTP2,
        key_owner=KeyOwner(1000, 100),
        services=(app("db"), app("acme/other/cache")),
        netns_resolv_conf=True,
        limits=Limits(100_000_000, 200, 50),
    )
    made = ledger.begin(asked, owner=owner)
    assert made.phase is Phase.ATTACHING
    assert (made.name, made.app, made.instance, made.address) == ("web.0_a-b", app("web"), 3, IPv4Address("10.255.1.2"))
    assert (made.interface, made.ports, made.routes) == (
        "net0",
        (AppPort(8080), AppPort(53, "udp"), AppPort(9090)),
        ("web.apps.internal",),
    )
    assert (made.tls_target, made.tls_http, made.owner) == (9090, TargetHttp.HTTP2, owner)
    assert (made.key_owner, made.services) == (KeyOwner(1000, 100), (app("db"), app("acme/other/cache")))
    assert (made.netns_name, made.limits) == ("x", Limits(100_000_000, 200, 50))
    assert ledger.all() == (made,)
    assert ledger.get("web.0_a-b") == made


def test_an_attachment_has_an_id_that_is_its_own_for_as_long_as_it_lives(ledger: Ledger, database: Database) -> None:
    made = [ledger.begin(request(name), owner=OWNER) for name in "ab"]
    assert len({each.guid for each in made}) == 2
    assert [UUID(each.guid).version for each in made] == [4, 4]
    assert ledger.complete("a").guid == made[0].guid
    assert [each.guid for each in Ledger(database).all()] == [each.guid for each in made]
    detach(ledger, "a")
    assert ledger.begin(request("a"), owner=OWNER).guid not in {each.guid for each in made}


def test_phases_follow_one_another(ledger: Ledger) -> None:
    attach(ledger, "a")
    assert ledger.complete("a").phase is Phase.ATTACHED
    assert ledger.complete("a").phase is Phase.ATTACHED
    leaving = ledger.begin_detach("a")
    assert leaving is not None
    assert leaving.phase is Phase.DETACHING
    assert ledger.all() == (leaving,)
    ledger.finish_detach("a", now=1.0)
    assert ledger.all() == ()
    assert ledger.get("a") is None


def test_detaching_what_is_not_there_is_fine(ledger: Ledger) -> None:
    assert ledger.begin_detach("a") is None
    ledger.finish_detach("a", now=1.0)
    detach_twice = attach(ledger, "a")
    detach(ledger, "a")
    detach(ledger, "a")
    assert attach(ledger, "b") != detach_twice


def test_an_attach_that_was_detached_meanwhile_cannot_be_completed(ledger: Ledger) -> None:
    attach(ledger, "a")
    ledger.begin_detach("a")
    with pytest.raises(Conflict, match="'a' was detached while it was being attached"):
        ledger.complete("a")
    ledger.finish_detach("a", now=1.0)
    with pytest.raises(Conflict, match="'a' was detached"):
        ledger.complete("a")


def test_a_detach_cannot_end_before_it_began(ledger: Ledger) -> None:
    attach(ledger, "a")
    with pytest.raises(Bug):
        ledger.finish_detach("a", now=1.0)
    assert len(ledger.all()) == 1


def test_a_taken_name_is_a_conflict_that_names_its_holder_until_it_is_struck_out(ledger: Ledger) -> None:
    attach(ledger, "a")
    for step in (ledger.complete, ledger.begin_detach):
        with pytest.raises(Conflict, match=r"the name 'a' is taken by acme/shop/web \(instance 0, 10\.255\.1\.2, ") as refused:
            ledger.begin(request("a", of="api"), owner=OWNER)
        assert refused.value.taken == "a"
        step("a")
    ledger.finish_detach("a", now=1.0)
    attach(ledger, "a")


def test_instances_count_from_the_lowest_free_one_for_each_app(ledger: Ledger) -> None:
    instances = [ledger.begin(request(name, of=name[0]), owner=OWNER).instance for name in ("x1", "x2", "y1", "x3")]
    assert instances == [0, 1, 0, 2]
    detach(ledger, "x2")
    assert ledger.begin(request("x4", of="x"), owner=OWNER).instance == 1
    assert ledger.begin(request("x9", of="x", instance=7), owner=OWNER).instance == 7
    assert ledger.begin(request("x5", of="x"), owner=OWNER).instance == 3


def test_a_taken_instance_is_a_conflict_that_takes_no_address(ledger: Ledger) -> None:
    ledger.begin(request("a", instance=1), owner=OWNER)
    with pytest.raises(Conflict, match="instance 1 of acme/shop/web is taken by 'a'"):
        ledger.begin(request("b", instance=1), owner=OWNER)
    assert ledger.begin(request("b", of="api", instance=1), owner=OWNER).address == IPv4Address("10.255.1.3")


def test_addresses_begin_at_two_and_never_used_ones_come_first(ledger: Ledger) -> None:
    assert [str(attach(ledger, name)) for name in "abc"] == ["10.255.1.2", "10.255.1.3", "10.255.1.4"]
    detach(ledger, "a")
    assert str(attach(ledger, "d")) == "10.255.1.5"


def test_a_full_subnet_is_a_conflict_with_a_hint_and_one_release_ends_it(ledger: Ledger) -> None:
    given = {attach(ledger, f"w{number}") for number in range(253)}
    assert given == set(SUBNET.hosts()) - {IPv4Address("10.255.1.1")}
    with pytest.raises(Conflict, match=r"no address left in 10\.255\.1\.0/24") as refused:
        attach(ledger, "one-more")
    assert refused.value.hint
    assert ledger.get("one-more") is None
    ledger.begin_detach("w7")
    with pytest.raises(Conflict):
        attach(ledger, "one-more")
    ledger.finish_detach("w7", now=1.0)
    assert str(attach(ledger, "one-more")) == "10.255.1.9"


def test_once_all_were_used_the_one_freed_longest_ago_comes_first_at_any_clock(ledger: Ledger) -> None:
    for number in range(253):
        attach(ledger, f"w{number}")
    for name, now in (("w9", 100.0), ("w3", 50.0), ("w6", 3.0)):
        detach(ledger, name, now=now)
    assert [str(attach(ledger, name)) for name in "xyz"] == ["10.255.1.11", "10.255.1.5", "10.255.1.8"]


def test_everything_is_there_after_a_reopening(path: Path, database: Database, ledger: Ledger) -> None:
    attach(ledger, "a")
    attach(ledger, "b")
    ledger.complete("b")
    detach(ledger, "a")
    attach(ledger, "c")
    ledger.begin_detach("c")
    before = ledger.all()
    database.close()
    again = Ledger(Database(path))
    assert again.all() == before
    assert [held.phase for held in again.all()] == [Phase.ATTACHED, Phase.DETACHING]
    assert again.subnet() == SUBNET
    assert str(attach(again, "d")) == "10.255.1.5"


def test_unchanged_attachments_stay_the_same_objects(ledger: Ledger) -> None:
    attach(ledger, "a")
    first = ledger.all()
    assert ledger.all() is first
    attach(ledger, "b")
    assert ledger.all()[0] is first[0]


def test_a_subnet_is_not_changed_under_attachments(ledger: Ledger) -> None:
    other = IPv4Network("10.99.1.0/24")
    attach(ledger, "a")
    with pytest.raises(Conflict, match=r"1 attachments have addresses outside of 10\.99\.1\.0/24, e\.g\. 'a' 10\.255\.1\.2"):
        ledger.adopt_subnet(other)
    assert ledger.subnet() == SUBNET
    detach(ledger, "a")
    ledger.adopt_subnet(other)
    assert str(attach(ledger, "b")) == "10.99.1.2"
    ledger.adopt_subnet(IPv4Network("10.99.0.0/23"))
    assert str(attach(ledger, "c")) == "10.99.1.3"


def test_nothing_is_attached_before_the_cell_has_a_subnet(database: Database) -> None:
    with pytest.raises(Bug):
        attach(Ledger(database), "a")


def test_a_new_book_knows_no_subnet_and_the_cell_keeps_its_first_id(database: Database) -> None:
    ledger = Ledger(database)
    assert ledger.subnet() is None
    assert ledger.cell_id(fresh="one") == "one"
    assert ledger.cell_id(fresh="two") == "one"


def test_a_book_of_an_earlier_version_is_read_and_its_keys_are_roots(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    earlier = sqlite3.connect(path, isolation_level=None)
    migrate(earlier, migrations=MIGRATIONS[:4])
    for number, name in enumerate("ab"):
        earlier.execute(
            "INSERT INTO attachments VALUES (?, 'acme/shop/web', ?, ?, 'eth0', '[8080]', '[]', 8080, 0, ?, 'attached')",
            (name, number, int(FIRST) + number, '{"pid": 4711, "started": 123456, "boot_id": "b1"}'),
        )
    earlier.close()
    held, other = Ledger(Database(path)).all()
    assert UUID(held.guid).version == UUID(other.guid).version == 4
    assert held.guid != other.guid
    assert (held.name, held.owner, held.phase, held.key_owner) == ("a", OWNER, Phase.ATTACHED, ROOT)


def test_only_what_may_have_changed_is_read_again(
    ledger: Ledger, database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        attach(ledger, name)
    before, asked, read = ledger.all(), list[tuple[str | int | float | None, ...]](), database.read

    def counted(sql: str, *values: str | int | float | None) -> list[sqlite3.Row]:
        asked.append(values)
        return read(sql, *values)

    monkeypatch.setattr(database, "read", counted)
    with database.transaction(durable=False) as connection:
        connection.execute("INSERT INTO meta (key, value) VALUES ('of', 'others')")
    assert ledger.all() is before
    assert asked == []
    ledger.complete("b")
    asked.clear()
    after = ledger.all()
    assert asked == [("b",)]
    assert [one is other for one, other in zip(before, after, strict=True)] == [True, False, True]
    with sqlite3.connect(path) as another_process:
        another_process.execute("UPDATE attachments SET interface = 'eth9' WHERE name = 'a'")
    assert [each.interface for each in ledger.all()] == ["eth9", "eth0", "eth0"]
