"""What `--publish` takes: as it is written, as the API has it, and as the dataplane does; what cannot be is refused."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.errors import Conflict, InvalidInput
from agent.model.attachment import AttachRequest
from agent.model.publication import Publication, on_host, published_address, refuse_published
from agent.store.ledger import Ledger
from dataplane.state import PublishedPort
from tests.testlib.samples import OWNER, app

ADDRESS = IPv4Address("192.0.2.7")
WRITTEN = {
    "8080:80": (Publication(8080, 8080, 80), PublishedPort("tcp", None, 8080, 8080, 80)),
    "192.0.2.7:53:53/udp": (Publication(53, 53, 53, "udp", ADDRESS), PublishedPort("udp", ADDRESS, 53, 53, 53)),
    "8000-8010:9000-9010": (Publication(8000, 8010, 9000), PublishedPort("tcp", None, 8000, 8010, 9000)),
    "443:tls": (Publication(443, 443, None), PublishedPort("tcp", None, 443, 443, 61443)),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_published_port_is_read_as_it_is_written_and_written_as_it_is_read(text: str) -> None:
    publication, port = WRITTEN[text]
    assert Publication.parse(text) == publication
    assert str(publication) == text
    assert on_host([publication], tls_port=61443) == (port,)


def test_what_means_the_same_is_the_same() -> None:
    assert Publication.parse("0.0.0.0:8080:80/tcp") == Publication.parse("8080-8080:80-80") == Publication.parse("8080:80")
    assert published_address("any") is published_address("0.0.0.0") is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("8080", "is not a port to publish"),
        ("8080:80/icmp", "is not a port to publish"),
        ("::1:8080:80", "is not a port to publish"),
        ("host:8080:80", "is not a port to publish"),
        ("0:80", "port 0 is out of range"),
        ("8080:65536", "port 65536 is out of range"),
        ("60000-60010:65530-65540", "port 65540 is out of range"),
        ("8010-8000:80", "the range 8010-8000 is reversed"),
        ("8000-8010:80", "has not as many ports inside as outside"),
        ("8000-8010:9000-9011", "has not as many ports inside as outside"),
        ("443:tls/udp", "leads to one port of TCP"),
        ("443-444:tls", "leads to one port of TCP"),
        ("192.0.2.300:8080:80", "is not an IPv4 address"),
        ("127.0.0.1:8080:80", "nothing is published on 127.0.0.1"),
        ("169.254.0.2:53:53/udp", "nothing is published on 169.254.0.2"),
        ("224.0.0.1:8080:80", "nothing is published on 224.0.0.1"),
    ],
)
def test_what_cannot_be_published_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Publication.parse(text)


@pytest.mark.parametrize(
    ("other", "is_taken"),
    [
        ("8005:80", True), ("8000-8001:1-2", True), ("8010-9000:1-991", True), ("192.0.2.8:8005:80", True),
        ("7999:80", False), ("8011:80", False), ("8005:80/udp", False), ("8443:80", True), ("192.0.2.7:8443:80", True),
        ("192.0.2.8:8443:80", False),
    ],
)  # fmt: skip
def test_a_port_is_another_attachments_where_one_packet_could_mean_both(other: str, is_taken: bool) -> None:
    held = [Publication.parse("8000-8010:9000-9010"), Publication.parse("192.0.2.7:8443:443")]
    wanted = [Publication.parse(other)]
    if not is_taken:
        refuse_published(wanted, held, by="web")
        return
    with pytest.raises(Conflict, match="of this host is published by 'web'"):
        refuse_published(wanted, held, by="web")


def test_one_request_publishes_a_port_once() -> None:
    with pytest.raises(InvalidInput, match=r"port 192\.0\.2\.7:8080/tcp is published twice"):
        asked("a", "8080:80", "192.0.2.7:8080:81")


def test_a_published_port_is_kept_and_is_its_attachments_until_nothing_is_left_of_it(ledger: Ledger) -> None:
    ledger.begin(asked("a", "8080:80", "443:tls"), owner=OWNER)
    (held,) = ledger.all()
    assert held.publish == (Publication(8080, 8080, 80), Publication(443, 443, None))
    ledger.begin_detach("a")
    with pytest.raises(Conflict, match="port 443/tcp of this host is published by 'a'"):
        ledger.begin(asked("b", "443:443"), owner=OWNER)
    assert [each.name for each in ledger.all()] == ["a"], "nothing of the other"
    ledger.finish_detach("a", now=1.0)
    assert ledger.begin(asked("b", "443:443"), owner=OWNER).publish == (Publication(443, 443, 443),)


def asked(name: str, *ports: str) -> AttachRequest:
    return AttachRequest(name=name, app=app(name), netns=Path("/run/netns/x"), publish=tuple(map(Publication.parse, ports)))
