"""Messages of DNS, as dnsmasq asks and as name servers answer. Pure.

dnsmasq says which container asks, as EDNS' client subnet. It is never sent on. Of an answer only the addresses are taken that
the name asked for stands for, directly or by aliases; dnsmasq gets them as that name's own, and so learns nothing of any other.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rrset

from dataplane.dns.hop.refusals import COUNTS, HEADER, LARGEST, QUESTION_END, asked_at

ALIASES: Final = 16  # one behind another
MOST: Final = 512  # addresses of an answer; what is beyond is left out
LONGEST: Final = 86_400  # seconds
WHOLE: Final = 32  # bits: a client, not a network
ADDRESS, CLASS = 4, 2  # bytes
TKEY: Final = struct.pack("!H", dns.rdatatype.TKEY)
OPTIONS: Final = struct.Struct("!BHHIH")  # the root as owner, OPT, how much may be answered, flags, length
OPTION: Final = struct.Struct("!2H")  # kind, length
SUBNET: Final = struct.pack("!4H", 8, 8, 1, WHOLE << 8)  # an option, its length, the family, the whole address
Addresses = tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class HopQuestion:
    """One question, of a container, for a name in lower case and without a dot at its end."""

    message: dns.message.QueryMessage
    name: str
    client: IPv4Address | None
    for_addresses: bool


@dataclass(frozen=True, slots=True)
class FoundAddresses:
    """What a name stands for, for so many `seconds`. With an error there is none."""

    addresses: Addresses = ()
    seconds: int = 0
    code: dns.rcode.Rcode = dns.rcode.NOERROR


def question_of(wire: bytes) -> HopQuestion | None:
    """None for what is no question of ours to answer."""
    try:
        message = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None
    if not isinstance(message, dns.message.QueryMessage) or message.flags & dns.flags.QR or len(message.question) != 1:
        return None
    (asked,) = message.question
    if asked.rdclass != dns.rdataclass.IN or message.opcode() != dns.opcode.QUERY:
        return None
    name = asked.name.to_text(omit_final_dot=True).lower()
    return HopQuestion(message, name, client_of(wire), asked.rdtype == dns.rdatatype.A)


def client_of(wire: bytes) -> IPv4Address | None:
    """Who asks, without a look at all of it: dnsmasq adds that at the end. None where it cannot be told so.

    dnsmasq adds nothing, and takes nothing away, where a question is signed (a TSIG at its end, or a question for TKEY), and
    adds nothing to what is too long. So it counts only where it is the last option of the one record that is there.
    """
    asked = asked_at(wire, HEADER)
    if asked is None or COUNTS.unpack_from(wire, HEADER - COUNTS.size) != (1, 0, 0, 1):
        return None
    plain, after = asked
    place, end = after + OPTIONS.size, len(wire) - len(SUBNET) - ADDRESS
    if plain[-QUESTION_END:-CLASS] == TKEY:
        return None
    if place > end or wire[end : len(wire) - ADDRESS] != SUBNET:
        return None
    root, kind, _, _, length = OPTIONS.unpack_from(wire, after)
    if (root, kind, length) != (0, dns.rdatatype.OPT, len(wire) - place):
        return None
    while place < end:
        kind, length = OPTION.unpack_from(wire, place)
        if kind == dns.edns.OptionType.ECS:
            return None
        place += OPTION.size + length
    return IPv4Address(wire[-ADDRESS:]) if place == end else None


def answer(question: HopQuestion, found: FoundAddresses, *, datagram: bool) -> bytes:
    """What dnsmasq is answered. What does not fit a datagram is marked as cut short."""
    made = dns.message.make_response(question.message, recursion_available=True, our_payload=LARGEST)
    made.set_rcode(found.code)
    if found.addresses:
        owner = question.message.question[0].name
        texts = [str(each) for each in found.addresses]
        made.answer.append(dns.rrset.from_text_list(owner, found.seconds, dns.rdataclass.IN, dns.rdatatype.A, texts))
    most = min(max(question.message.payload, 512), LARGEST) if datagram else 65_535
    return made.to_wire(max_size=most, prefer_truncation=True)


def query_for(name: str) -> dns.message.QueryMessage:
    """A question for the addresses of a name, with a number that cannot be guessed, and without a word of who asks.

    Raises DNSException for what is no name.
    """
    return dns.message.make_query(dns.name.from_text(name), dns.rdatatype.A, use_edns=0, payload=LARGEST)


def accepted(wire: bytes, query: dns.message.QueryMessage) -> dns.message.Message | None:
    """What is said, if it answers that very question; None for what does not, or cannot be read."""
    try:
        found = dns.message.from_wire(wire, ignore_trailing=True, raise_on_truncation=False)
    except dns.exception.DNSException:
        return None
    return found if query.is_response(found) else None


def addresses_in(found: dns.message.Message, query: dns.message.QueryMessage) -> FoundAddresses:
    """What the name that was asked for stands for."""
    code = dns.rcode.Rcode(found.rcode())
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return FoundAddresses(code=dns.rcode.SERVFAIL)
    owner, seconds = query.question[0].name, LONGEST
    for _ in range(ALIASES):
        records = found.get_rrset(found.answer, owner, dns.rdataclass.IN, dns.rdatatype.A)
        if records is not None:
            addresses = tuple(IPv4Address(each.address) for each in records if isinstance(each, dns.rdtypes.IN.A.A))
            return FoundAddresses(addresses[:MOST], min(seconds, records.ttl))
        alias = found.get_rrset(found.answer, owner, dns.rdataclass.IN, dns.rdatatype.CNAME)
        if alias is None:
            break
        owner, seconds = alias[0].target, min(seconds, alias.ttl)
    return FoundAddresses(code=code)
