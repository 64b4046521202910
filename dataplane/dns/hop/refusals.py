"""Answers without an address, made from a question's bytes alone: for what cannot be read, is too much, is not known.

With the standard library alone, and little of that: what only waits imports it (`doorway.py`).
"""

import struct

LARGEST = 1232  # bytes of a datagram: fits any path
HEADER, QUESTION_END = 12, 4  # bytes
COUNTS = struct.Struct("!4H")  # of questions, answers, authorities, and what is besides
POINTER, MOST_POINTERS, LONGEST_NAME = 0xC0, 255, 255
RESPONSE, RECURSION = 0x80, 0x80
FAILED, UNKNOWN = 2, 3  # codes


def refusal(wire: bytes, code: int) -> bytes:
    """An error that answers a question, or several, whatever else there is; b"" where there is none.

    dnsmasq knows an answer by the questions in it. One without an answer would take a place of all for ten seconds.
    """
    if len(wire) < HEADER or wire[2] & RESPONSE:
        return b""
    count, place, questions = COUNTS.unpack_from(wire, HEADER - COUNTS.size)[0], HEADER, b""
    for _ in range(count):
        asked = asked_at(wire, place)
        if asked is None or len(questions) > LARGEST:
            return b""
        questions, place = questions + asked[0], asked[1]
    return wire[:2] + bytes([wire[2] | RESPONSE, RECURSION | code]) + COUNTS.pack(count, 0, 0, 0) + questions


def asked_at(wire: bytes, place: int) -> tuple[bytes, int] | None:
    """The question at a place as it would be without pointers, and where it ends.

    Names may go on elsewhere, by pointers that lead anywhere: dnsmasq takes them.
    """
    labels, end, pointers = b"", 0, 0
    while place < len(wire) and (length := wire[place]):
        if length < POINTER:
            labels += wire[place : place + 1 + length]
            place += 1 + length
        else:
            end, pointers = end or place + 2, pointers + 1
            place = int.from_bytes(wire[place : place + 2], "big") & 0x3FFF
        if len(labels) > LONGEST_NAME or pointers > MOST_POINTERS:
            return None
    end = end or place + 1
    rest = wire[end : end + QUESTION_END]
    if place >= len(wire) or len(rest) < QUESTION_END:
        return None
    return labels + b"\0" + rest, end + QUESTION_END
