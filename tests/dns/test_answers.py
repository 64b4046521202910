"""What a container is answered: every instance, from the moment that its file says so, and of all other kinds nothing."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from tests.testlib.beds.dns import DnsBed
from tests.testlib.dns.client import Answer, Code, Kind, ask, ask_over_tcp, exchange, question
from tests.testlib.patience import eventually

APP = "api.shop.acme.cell.internal"
NAMES: Mapping[str, tuple[str, ...]] = {
    "10.255.1.7": (APP, f"0.{APP}", "backend.apps.internal", "0.backend.apps.internal"),
    "10.255.1.8": (APP, f"1.{APP}", "backend.apps.internal", "1.backend.apps.internal"),
    "10.255.2.7": (APP, f"2.{APP}"),
}


def follows(bed: DnsBed, name: str, *addresses: str) -> None:
    """Wait until a name stands for these, and for no others."""
    eventually(lambda: sorted(ask(bed.containers[0], name).addresses) == sorted(addresses))


@pytest.mark.parametrize("over", [ask, ask_over_tcp], ids=["UDP", "TCP"])
def test_a_name_is_answered_with_every_instance(bed: DnsBed, over: Callable[..., Answer]) -> None:
    bed.publish(NAMES)
    follows(bed, APP, "10.255.1.7", "10.255.1.8", "10.255.2.7")
    found = over(bed.containers[0], APP)
    assert sorted(found.addresses) == ["10.255.1.7", "10.255.1.8", "10.255.2.7"]
    assert {each.seconds for each in found.records} == {0}
    assert over(bed.containers[1], f"1.{APP}").addresses == ["10.255.1.8"]
    assert sorted(over(bed.containers[0], "backend.apps.internal").addresses) == ["10.255.1.7", "10.255.1.8"]


def test_the_host_itself_is_answered_too(bed: DnsBed) -> None:
    bed.publish(NAMES)
    follows(bed, f"0.{APP}", "10.255.1.7")
    assert ask(bed.cell, f"0.{APP}").addresses == ["10.255.1.7"]


def test_instances_take_turns_at_being_the_first(bed: DnsBed) -> None:
    bed.publish(NAMES)
    follows(bed, APP, "10.255.1.7", "10.255.1.8", "10.255.2.7")
    first = Counter(ask(bed.containers[0], APP).addresses[0] for _ in range(30))
    assert set(first) == {"10.255.1.7", "10.255.1.8", "10.255.2.7"}


@pytest.mark.parametrize("kind", [Kind.AAAA, Kind.HTTPS, Kind.SRV, Kind.TXT, Kind.MX, Kind.SOA, Kind.CNAME])
def test_of_other_kinds_a_name_has_nothing_and_is_there(bed: DnsBed, kind: Kind) -> None:
    """Else a resolver that asks for AAAA first would take it that there is no such name."""
    bed.publish(NAMES)
    follows(bed, f"0.{APP}", "10.255.1.7")
    found = ask(bed.containers[0], APP, kind)
    assert (found.code, found.records) == (Code.NOERROR, ())


@pytest.mark.parametrize("kind", [Kind.A, Kind.AAAA, Kind.TXT])
@pytest.mark.parametrize("name", ["nothing.shop.acme.cell.internal", "3.api.shop.acme.cell.internal", "nothing.apps.internal"])
def test_a_name_that_nothing_has_is_not_there(bed: DnsBed, name: str, kind: Kind) -> None:
    bed.publish(NAMES)
    follows(bed, f"0.{APP}", "10.255.1.7")
    found = ask(bed.containers[0], name, kind)
    assert (found.code, found.records) == (Code.NXDOMAIN, ())


def test_an_address_is_called_by_its_first_name(bed: DnsBed) -> None:
    bed.publish(NAMES)
    follows(bed, f"0.{APP}", "10.255.1.7")
    (record,) = ask(bed.containers[0], "8.1.255.10.in-addr.arpa", Kind.PTR).records
    assert record.value == APP
    assert ask(bed.containers[0], "9.1.255.10.in-addr.arpa", Kind.PTR).code is Code.NXDOMAIN


def test_letters_come_back_as_they_were_written(bed: DnsBed) -> None:
    """Resolvers write a name in a mixture of cases and believe no answer that does not repeat it."""
    bed.publish(NAMES)
    follows(bed, f"0.{APP}", "10.255.1.7")
    found = ask(bed.containers[0], "0.aPi.SHOP.acme.cEll.InternaL")
    assert (found.question, found.addresses) == ("0.aPi.SHOP.acme.cEll.InternaL", ["10.255.1.7"])


@pytest.mark.parametrize(
    "name", ["example.com", "internal.example.com", "cell.internal.example.com", "1.0.168.192.in-addr.arpa"]
)
@pytest.mark.parametrize("kind", [Kind.A, Kind.AAAA, Kind.TXT, Kind.PTR, Kind.ANY, Kind.MX])
def test_without_the_outside_no_other_name_is_there(bed: DnsBed, name: str, kind: Kind) -> None:
    assert ask(bed.containers[0], name, kind).code is Code.NXDOMAIN


def test_a_name_without_a_dot_is_answered_here(bed: DnsBed) -> None:
    assert ask(bed.containers[0], "backend").code is Code.NXDOMAIN


def test_names_come_change_and_go_with_their_file(bed: DnsBed) -> None:
    bed.publish({"10.255.1.7": (APP,)})
    follows(bed, APP, "10.255.1.7")
    bed.publish({"10.255.1.7": (APP,), "10.255.1.8": (APP, "new.apps.internal")})
    follows(bed, APP, "10.255.1.7", "10.255.1.8")
    bed.publish({"10.255.1.8": ("new.apps.internal",)})
    follows(bed, "new.apps.internal", "10.255.1.8")
    assert ask(bed.containers[0], APP).code is Code.NXDOMAIN
    bed.publish({})
    eventually(lambda: ask(bed.containers[0], "new.apps.internal").code is Code.NXDOMAIN)
    assert ask(bed.containers[0], "8.1.255.10.in-addr.arpa", Kind.PTR).code is Code.NXDOMAIN


def test_what_does_not_fit_a_datagram_comes_over_tcp(bed: DnsBed) -> None:
    addresses = [f"10.255.{number // 250}.{number % 250}" for number in range(500)]
    bed.publish({address: (APP, f"{number}.{APP}") for number, address in enumerate(addresses)})
    eventually(lambda: len(ask_over_tcp(bed.containers[0], APP).addresses) == 500)
    assert sorted(ask_over_tcp(bed.containers[0], APP).addresses) == sorted(addresses)
    for edns, most in ((0, 512), (1232, 1232), (4096, 1232)):
        found = ask(bed.containers[0], APP, edns=edns)
        assert found.truncated
        assert most - 16 <= found.size <= most
        assert set(found.addresses) <= set(addresses)


def test_who_serves_is_not_told(bed: DnsBed) -> None:
    """Version, size of the cache and servers of the outside, in the class of such questions."""
    for name in ("version.bind", "servers.bind", "cachesize.bind"):
        message = question(name, Kind.TXT)
        asked = exchange(bed.containers[0], message[:-2] + b"\0\x03")
        assert b"dnsmasq" not in asked
        assert asked[3] & 15 == Code.NOTIMP
