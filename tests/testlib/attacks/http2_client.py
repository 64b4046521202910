"""Floods of frames in a tunnel, and frames that no library would write: HTTP/2 by hand, as fast as it goes."""

import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = struct.Struct("!HBBBI")  # length in 16 and 8 bits, type, flags, stream
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
STATUS_200: Final = 0x88  # as HPACK's static table has it
CANCEL: Final = 8
MOST_OPEN: Final = 2**31 - 1


class Frame(IntEnum):
    """What a frame is."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8


class Http2Client:
    """`opened` and `refused` are streams by their numbers; `gone` says that the other end wants no more of them."""

    def __init__(self, connection: ssl.SSLSocket | socket.socket) -> None:
        self.connection = connection
        self.opened, self.refused, self.ended = set[int](), set[int](), set[int]()
        self.bytes_of: dict[int, int] = {}
        self.gone = False
        self._next, self._unread = 1, b""
        window = struct.pack("!I", MOST_OPEN - 65_535)
        self.send(PREFACE + frame(Frame.SETTINGS) + frame(Frame.WINDOW_UPDATE, payload=window))

    def send(self, words: bytes) -> None:
        self.connection.sendall(words)

    def connect(self, authority: str, *, headers: Mapping[str, str] | None = None) -> int:
        """Ask for a stream to there; its number."""
        return self.request({":method": "CONNECT", ":authority": authority, **(headers or {})})

    def request(self, headers: Mapping[str, str]) -> int:
        number, self._next = self._next, self._next + 2
        self.send(request_frame(number, headers))
        return number

    def reset(self, stream: int) -> None:
        self.send(frame(Frame.RST_STREAM, stream=stream, payload=struct.pack("!I", CANCEL)))

    def write(self, stream: int, words: bytes, *, last: bool = False) -> None:
        self.send(frame(Frame.DATA, END_STREAM if last else 0, stream=stream, payload=words))

    def take(self, seconds: float = 0.0) -> bool:
        """Deal with what has come, and wait so long for more; whether the connection still is."""
        self.connection.settimeout(max(seconds, 0.001))
        try:
            while True:
                got = self.connection.recv(65_536)
                if not got:
                    return False
                self._unread += got
                self._take_frames()
                self.connection.settimeout(0.001)
        except (TimeoutError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False

    def _take_frames(self) -> None:
        while len(self._unread) >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(self._unread)
            end = HEAD.size + (high << 8 | low)
            if len(self._unread) < end:
                return
            payload, self._unread = self._unread[HEAD.size : end], self._unread[end:]
            self._take_frame(kind, flags, stream, payload)

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == Frame.HEADERS and stream not in self.opened:
            (self.opened if payload[:1] == bytes([STATUS_200]) else self.refused).add(stream)
        elif kind == Frame.DATA:
            self.bytes_of[stream] = self.bytes_of.get(stream, 0) + len(payload)
        elif kind == Frame.GOAWAY:
            self.gone = True
        elif kind in (Frame.SETTINGS, Frame.PING) and not flags & ACK:
            self.send(frame(kind, ACK, payload=payload if kind == Frame.PING else b""))
        if kind == Frame.RST_STREAM or (kind in (Frame.DATA, Frame.HEADERS) and flags & END_STREAM):
            self.ended.add(stream)

    def close(self) -> None:
        with suppress(OSError):
            self.connection.close()


def frame(kind: int, flags: int = 0, *, stream: int = 0, payload: bytes = b"") -> bytes:
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def request_frame(stream: int, headers: Mapping[str, str], *, flags: int = END_HEADERS) -> bytes:
    """Every header as a literal that is not indexed, so that nothing of one request is in another."""
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    return frame(Frame.HEADERS, flags, stream=stream, payload=block)


def _text(words: str) -> bytes:
    raw = words.encode()
    return _integer(len(raw)) + raw


def _integer(number: int) -> bytes:
    """HPACK's, with a prefix of 7 bits."""
    if number < 127:
        return bytes([number])
    rest, found = number - 127, bytearray([127])
    while rest >= 128:
        found.append(rest % 128 + 128)
        rest //= 128
    return bytes(found) + bytes([rest])
