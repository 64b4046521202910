"""What the hop reads of dnsmasq's questions, and what it answers: one question, of one container."""

from ipaddress import IPv4Address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from dataplane.dns.hop import messages
from dataplane.dns.hop.messages import FoundAddresses, HopQuestion
from dataplane.dns.hop.quota import BURST, RATE, Quota
from dataplane.dns.hop.refusals import FAILED, refusal

CLIENT = IPv4Address("10.255.1.2")
ONE = IPv4Address("192.0.2.1")


def asked(*options: dns.edns.Option, name: str = "API.Example.com", kind: str = "A") -> dns.message.QueryMessage:
    made = dns.message.make_query(name, kind, use_edns=0)
    made.use_edns(0, payload=1232, options=list(options))
    return made


def subnet(address: str = str(CLIENT), length: int = 32) -> dns.edns.ECSOption:
    return dns.edns.ECSOption(address, length)


def read(message: dns.message.Message) -> HopQuestion:
    found = messages.question_of(message.to_wire())
    assert found is not None
    return found


def test_a_question_is_for_a_name_in_lower_case_by_a_container() -> None:
    found = read(asked(subnet()))
    assert (found.name, found.client, found.for_addresses) == ("api.example.com", CLIENT, True)
    assert not read(asked(subnet(), kind="AAAA")).for_addresses


@pytest.mark.parametrize("options", [(), (subnet(), subnet()), (subnet("10.255.1.0", 24),), (subnet("2001:db8::", 32),)])
def test_one_who_cannot_be_told_is_nobody(options: tuple[dns.edns.Option, ...]) -> None:
    assert read(asked(*options)).client is None


def test_what_is_no_question_is_passed_over() -> None:
    answer = dns.message.make_response(asked(subnet()))
    two = asked(subnet())
    two.question.append(two.question[0])
    for wire in (b"", b"\0" * 5, b"\xff" * 40, answer.to_wire(), asked(subnet()).to_wire()[:-3]):
        assert messages.question_of(wire) is None


def test_an_answer_is_of_the_name_that_was_asked_for_and_says_nothing_of_the_container() -> None:
    wire = messages.answer(read(asked(subnet())), FoundAddresses((ONE,), 30), datagram=True)
    found = dns.message.from_wire(wire)
    assert [each.to_text() for each in found.answer] == ["API.Example.com. 30 IN A 192.0.2.1"]
    assert found.options == ()


def test_what_does_not_fit_a_datagram_is_cut_short_and_whole_over_tcp() -> None:
    many = FoundAddresses(tuple(ONE + number for number in range(500)), 30)
    question = read(asked(subnet()))
    short, whole = (dns.message.from_wire(messages.answer(question, many, datagram=each)) for each in (True, False))
    assert short.flags & dns.flags.TC
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 500


def test_who_asks_is_read_without_the_rest_where_dnsmasq_has_written_it() -> None:
    assert messages.client_of(asked(subnet()).to_wire()) == CLIENT
    assert messages.client_of(asked(subnet("10.255.1.0", 24)).to_wire()) is None
    assert messages.client_of(b"\0" * 3) is None


def test_who_asks_is_nobody_where_dnsmasq_may_not_have_written_it() -> None:
    """It leaves alone what is signed, and adds nothing where there is no room."""
    last = asked(subnet()).to_wire()[-12:]
    hidden = dns.edns.GenericOption(dns.edns.OptionType.make(65_001), last)
    signed = asked().to_wire()[:-11]
    for wire in (
        asked(hidden).to_wire(),
        asked(subnet(), hidden).to_wire(),
        asked(subnet(), kind="TKEY").to_wire(),
        signed + b"\0\0\xfa\0\xff\0\0\0\0\0\x0c" + last,
        asked().to_wire() + last,
    ):
        assert wire.endswith(last)
        assert messages.client_of(wire) is None
    assert (
        messages.client_of(asked(dns.edns.GenericOption(dns.edns.OptionType.make(65_001), b"more"), subnet()).to_wire())
        == CLIENT
    )


def test_an_error_is_made_without_a_look_at_the_question() -> None:
    question = asked(subnet())
    found = dns.message.from_wire(refusal(question.to_wire(), FAILED))
    assert (found.id, found.rcode(), found.question) == (question.id, dns.rcode.SERVFAIL, question.question)
    assert refusal(question.to_wire()[:20], FAILED) == b""


def test_an_error_has_all_questions_in_it_with_names_that_lead_nowhere_else() -> None:
    """As dnsmasq knows it by."""
    header, plain = b"\0\7\1\0\0\2\0\0\0\0\0\0", b"\1x\1y\0\0\1\0\1"
    by_pointer, behind = b"\1x\xc0\x1d\0\1\0\1", b"\1y\0"
    wire = header + plain + by_pointer + behind
    assert wire[0x1D:] == behind
    assert refusal(wire, FAILED) == b"\0\7\x81\x82\0\2\0\0\0\0\0\0" + plain + plain
    around = header[:5] + b"\1" + header[6:] + b"\xc0\x0c\0\1\0\1"
    assert refusal(around, FAILED) == refusal(b"\0" * 11, FAILED) == b""
    assert refusal(refusal(wire, FAILED), FAILED) == b"", "an answer is not answered"


def test_a_container_may_ask_so_much_at_once_and_so_much_a_second_whatever_others_do() -> None:
    now = [0.0]
    quota = Quota(clock=lambda: now[0])
    assert sum(quota.takes(CLIENT) for _ in range(2_000)) == BURST
    assert quota.takes(ONE)
    now[0] += 1
    assert sum(quota.takes(CLIENT) for _ in range(2_000)) == RATE
