"""What Envoy has refused, as one fact, read from an entry of its access log. Pure.

Of a stream that the listener's own filters have refused the entry says no more than that: which of their demands
(`admission.py`) it did not meet is worked out here, from the same fields.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from ipaddress import IPv4Address
from typing import Final

from envoy.config.core.v3.address_pb2 import Address
from envoy.config.core.v3.base_pb2 import RequestMethod
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogCommon, AccessLogType, HTTPAccessLogEntry, TCPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from dataplane.envoy.access_log import BEGUN, CALLER, CLOSED, POLICY_ID, PROTOCOL, PROVED, RBAC
from dataplane.envoy.admission import ADMITTED, PORT_DIGITS
from dataplane.envoy.rights_filters import BY_AUDIT
from dataplane.state import INBOUND_PORT

FORBIDDEN: Final = 403
# How the reasons begin for which the codec gives a stream up, and those that its caller has ended
CODEC, REMOTE = "http2.", "http2.remote_"
# In the words of TLS for what it refuses itself, and for what the other end refuses
OWN_WORDS, OTHERS_WORDS = ":SSL routines:", "_ALERT_"
# In Envoy's words for a tunnel that was reset before it began
RESET_WORDS: Final = "Connection refused"
LAST_PORT: Final = 65_535
LONGEST: Final = 200  # characters of what a caller has written
_PLACE: Final = re.compile(f"([0-9.]+):({PORT_DIGITS})")


class Check(StrEnum):
    """What a call did not pass, or would not without an audit."""

    AUDIT = auto()  # it passed: a policy allows it, but one that is in audit

    RIGHTS = auto()  # no policy allows it
    ADDRESS = auto()  # the caller's certificate is of another address than the tunnel comes from
    CERTIFICATE = auto()  # there is none, or none that verifies
    SERVER = auto()  # at the caller's end: not the certificate of the address that was called
    TUNNEL = auto()  # at the caller's end: no tunnel was taken there, as its cell does where no policy is between the two
    HANDSHAKE = auto()  # no TLS, or not in time
    METHOD = auto()  # not that of tunnels
    AUTHORITY = auto()  # no address and port of the container's
    RESERVED = auto()  # a port of cellnet's own
    FRAMES = auto()  # more, or others, than HTTP/2 allows
    RATE = auto()  # too many handshakes or calls at once
    CONNECTIONS = auto()  # too many connections
    MEMORY = auto()  # Envoy has none left for it


# By why Envoy has closed a connection, in its own words
CLOSED_FOR: Final = {
    "over_connection_limit": Check.CONNECTIONS,
    "local_ratelimit_close_over_limit": Check.RATE,
    "transport_socket_timeout": Check.HANDSHAKE,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """`source` is the caller's address, `caller` the SPIFFE id that it showed; with `verified` that is its own.

    `destination` is the container that was called, `callee` its SPIFFE id (empty where it is another cell's); `port` is the one
    that the caller asked for, 0 where there is none. `words` are Envoy's or the caller's.
    """

    check: Check
    source: IPv4Address
    destination: IPv4Address
    port: int = 0
    caller: str = ""
    verified: bool = False
    callee: str = ""
    words: str = ""


def refusals(message: StreamAccessLogsMessage) -> Iterator[Refusal]:
    """Those in one message. What is no refusal, such as a caller that has gone again before it said anything, is left out."""
    for stream in message.http_logs.log_entry:
        if stream.response.response_code.value or _is_malformed(stream.response.response_code_details):
            yield _of_stream(stream)
    for connection in message.tcp_logs.log_entry:
        yield from _of_connection(connection)


def _is_malformed(details: str) -> bool:
    return details.startswith(CODEC) and not details.startswith(REMOTE)


def _of_stream(entry: HTTPAccessLogEntry) -> Refusal:
    common, authority = entry.common_properties, entry.request.authority
    place = _PLACE.fullmatch(authority)
    check = _failed_check(entry)
    return Refusal(
        check=check,
        source=_address(common.downstream_direct_remote_address),
        destination=_address(common.downstream_local_address),
        port=min(int(place[2]), LAST_PORT) if place else 0,
        caller=common.custom_tags[CALLER][:LONGEST],
        verified=True,
        callee=_callee(common),
        words=authority[:LONGEST]
        if check in (Check.AUTHORITY, Check.METHOD)
        else entry.response.response_code_details[:LONGEST],
    )


def _failed_check(entry: HTTPAccessLogEntry) -> Check:
    common, status = entry.common_properties, entry.response.response_code.value
    if _let_in_by(common) == BY_AUDIT and _came_to_the_app(common):
        return Check.AUDIT
    if status != FORBIDDEN:
        flags = common.response_flags
        return Check.MEMORY if flags.overload_manager else Check.CONNECTIONS if flags.upstream_overflow else Check.FRAMES
    if common.downstream_local_address.socket_address.port_value != INBOUND_PORT:
        return Check.ADDRESS  # on the port for TLS nothing else is refused (address_tie.py)
    if _let_in_by(common) == ADMITTED:
        return Check.RIGHTS
    own, place = str(_address(common.downstream_local_address)), _PLACE.fullmatch(entry.request.authority)
    if entry.request.request_method != RequestMethod.CONNECT or common.custom_tags[PROTOCOL]:
        return Check.METHOD
    if place is None or place[1] != own or int(place[2]) > LAST_PORT:
        return Check.AUTHORITY
    if common.custom_tags[PROVED] != str(_address(common.downstream_direct_remote_address)):
        return Check.ADDRESS
    return Check.RESERVED


def _let_in_by(common: AccessLogCommon) -> str:
    """The policy of the last filter that did, empty where none did."""
    found = common.metadata.filter_metadata.get(RBAC)
    return "" if found is None else found.fields[POLICY_ID].string_value


def _came_to_the_app(common: AccessLogCommon) -> bool:
    """Whether it took the stream, or did not for a reason of its own."""
    flags = common.response_flags
    is_taken = common.access_log_type == BEGUN
    return is_taken or (flags.upstream_connection_failure and not (flags.upstream_overflow or flags.overload_manager))


def _of_connection(entry: TCPAccessLogEntry) -> Iterator[Refusal]:
    common = entry.common_properties
    check, words = _cause(common)
    if check is None:
        return
    own = common.downstream_local_address.socket_address
    yield Refusal(
        check=check,
        source=_address(common.downstream_direct_remote_address),
        destination=_address(common.downstream_local_address),
        port=0 if common.HasField("tls_properties") else own.port_value,  # at the caller's end it is the one that was called
        caller=common.custom_tags[CALLER][:LONGEST],
        callee=_callee(common),
        words=words[:LONGEST],
    )


def _cause(common: AccessLogCommon) -> tuple[Check | None, str]:
    """With Envoy's words. None where the caller has gone by itself, or its call has come to nothing in another way."""
    if words := common.upstream_transport_failure_reason:
        # a call that is over at once is in the listener's entry, too
        is_told = common.access_log_type == AccessLogType.TcpConnectionEnd
        found = Check.SERVER if _is_refused_by_tls(words) else Check.TUNNEL if RESET_WORDS in words else None
        return found if is_told else None, words
    if words := common.downstream_transport_failure_reason:
        if not _is_refused_by_tls(words):
            return None, words
        return Check.CERTIFICATE if "CERTIFICATE" in words else Check.HANDSHAKE, words
    if common.response_flags.no_healthy_upstream:
        return Check.ADDRESS, ""
    closed = common.custom_tags[CLOSED]
    return CLOSED_FOR.get(closed), closed


def _is_refused_by_tls(words: str) -> bool:
    """Whether this end has refused the other. Not a connection that is reset, or is answered by no tunnel; nor what the other
    end refuses: if that is an Envoy, it says so itself.
    """
    return OWN_WORDS in words and OTHERS_WORDS not in words


def _callee(common: AccessLogCommon) -> str:
    shown = common.tls_properties.local_certificate_properties.subject_alt_name
    return next((name.uri for name in shown if name.uri), "")


def _address(address: Address) -> IPv4Address:
    return IPv4Address(address.socket_address.address or 0)
