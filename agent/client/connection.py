"""The control API's client. HTTP by hand over the unix socket: http.client takes longer to import than a command may take."""

import contextlib
import json
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from agent.client.answer import Fields
from agent.errors import Bug, CellnetError, Conflict, HostRefused, InvalidInput, Unavailable
from agent.wording import program

Value: TypeAlias = "str | int | float | bool | None"
Values: TypeAlias = "Sequence[str] | Sequence[int | str] | Sequence[Mapping[str, Value]]"
RequestBody: TypeAlias = Mapping[str, "Value | Values | Mapping[str, str | int | None]"]

ANSWER_WITHIN = 90.0
"""Seconds: more than the agent gives itself, so that its own error arrives."""
KINDS: Mapping[str, type[CellnetError]] = {
    kind.__name__: kind for kind in (InvalidInput, Conflict, HostRefused, Unavailable, Bug)
}
ANSWER = re.compile(
    rb"HTTP/1\.\d (?P<status>\d{3}) .*?^content-length: *(?P<length>\d+)", re.DOTALL | re.MULTILINE | re.IGNORECASE
)
UNITS = tuple(f"{folder}/systemd/system/cellnet.target" for folder in ("/etc", "/usr/lib", "/lib"))
"""Where systemd knows an agent's unit, if one of these is there."""
DATA = b"data: "
UNQUOTED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")


class Refused(RuntimeError):
    """The agent refused in a way that has no name of its own here: not found, not permitted."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and the pid of the agent that gave it (0 where it cannot be seen from here)."""

    fields: Fields
    agent_pid: int


@dataclass(frozen=True, slots=True)
class Client:
    """Calls the agent whose control socket is at `path`. Raises the errors of agent/errors.py, and Refused.

    `options` of the command line are what leads to that place, for the command that starts an agent there.
    """

    path: Path
    options: tuple[str, ...] = ()

    def get(self, address: str, **query: str) -> Fields:
        """Read something."""
        return self.ask(
            "GET", address + "?" * bool(query) + "&".join(f"{key}={quoted(value)}" for key, value in query.items())
        ).fields

    def post(self, address: str, body: RequestBody, *, within: float = ANSWER_WITHIN) -> Fields:
        """Have something done; `within` is in seconds."""
        return self.ask("POST", address, body, within=within).fields

    def put(self, address: str, body: RequestBody, *, within: float = ANSWER_WITHIN) -> Fields:
        """Have something so; `within` is in seconds."""
        return self.ask("PUT", address, body, within=within).fields

    def delete(self, address: str, body: RequestBody | None = None, *, within: float = ANSWER_WITHIN) -> Fields:
        """Remove something; `within` is in seconds."""
        return self.ask("DELETE", address, body or None, within=within).fields

    def ask(self, method: str, address: str, body: RequestBody | None = None, *, within: float = ANSWER_WITHIN) -> Reply:
        """One request over a connection of its own."""
        content = b"" if body is None else json.dumps({key: value for key, value in body.items() if value is not None}).encode()
        status, text, pid = self._answer(f"{method} {address}", content, within=within)
        fields = Fields.parse(text)
        if status >= 400:
            raise _failure(fields.at("error"))
        return Reply(fields, pid)

    def text(self, address: str) -> str:
        """Read what is no JSON."""
        status, text, _ = self._answer(f"GET {address}", b"", within=ANSWER_WITHIN)
        if status >= 400:
            raise _failure(Fields.parse(text).at("error"))
        return text.decode()

    def follow(self, address: str, **query: str) -> Iterator[Fields]:
        """The data of each server-sent event, until the agent ends. Between two of them nothing may come for a long time."""
        words = "&".join(f"{key}={quoted(value)}" for key, value in query.items())
        with self._connect(ANSWER_WITHIN) as connection:
            connection.sendall(f"GET {address}?{words} HTTP/1.0\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                status, length = _head(answer)
                if status != 200:
                    raise _failure(Fields.parse(answer.read(length)).at("error"))
                connection.settimeout(None)
                for line in answer:
                    if line.startswith(DATA):
                        yield Fields.parse(line[len(DATA) :])
        raise Unavailable("the agent went away", hint="see its log, then try again")

    def _answer(self, request: str, content: bytes, *, within: float) -> tuple[int, bytes, int]:
        """Status, body, and the process that answered."""
        try:
            with self._connect(within) as connection:
                pid = _peer_pid(connection)
                return *_exchange(connection, request, content), pid
        except TimeoutError as error:
            raise Unavailable(f"the agent at {self.path} did not answer within {within:g} s", hint="see its log") from error
        except ConnectionAbortedError as error:
            raise Unavailable("the agent went away before it answered", hint="see its log, then try again") from error

    def _connect(self, within: float) -> socket.socket:
        """A socket's address holds 107 bytes; through its folder's descriptor any path fits."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        made.settimeout(within)
        try:
            folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                made.connect(f"/proc/self/fd/{folder}/{self.path.name}")
            finally:
                os.close(folder)
        except OSError as error:
            made.close()
            if isinstance(error, PermissionError):
                raise Refused(f"you may not use {self.path}", hint="be root, or in group cellnet to look") from error
            if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
                raise self._not_there() from error
            raise
        return made

    def _not_there(self) -> Unavailable:
        from agent import last_start  # only mistakes need it

        failed, what = last_start.read(self.path.parent), f"no agent answers at {self.path}"
        if failed is None:
            by_units = not self.options and any(map(os.path.exists, UNITS))  # they are of the default place
            start = "systemctl start cellnet.target" if by_units else " ".join((program(), *self.options, "up"))
            return Unavailable(what, hint=f"'sudo {start}' starts one")
        return Unavailable(f"{what}: its last start failed{failed.at and f' at {failed.at}'}: {failed.what}", hint=failed.hint)


def _exchange(connection: socket.socket, request: str, content: bytes) -> tuple[int, bytes]:
    """Status and body. HTTP/1.0: an answer has no chunks, and ends with the connection. Raises ConnectionAbortedError."""
    head = f"{request} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    answer = bytearray()
    with contextlib.suppress(ConnectionError):  # a refusal may come, and the connection end, before all is sent
        connection.sendall(head.encode() + content)
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 20):
            answer += part
    lines, _, body = bytes(answer).partition(b"\r\n\r\n")
    found = ANSWER.match(lines)
    if found is None or len(body) != int(found["length"]):
        raise ConnectionAbortedError
    return int(found["status"]), body


def _head(answer: BinaryIO) -> tuple[int, int]:
    """Status and length of the body, 0 where it has none. Raises Unavailable."""
    lines = b"".join(iter(answer.readline, b"\r\n")) if (first := answer.readline()) else b""
    if not first:
        raise Unavailable("the agent went away before it answered", hint="see its log, then try again")
    found = re.search(rb"^content-length: *(\d+)", lines, re.MULTILINE | re.IGNORECASE)
    return int(first.split()[1]), int(found[1]) if found else 0


def quoted(text: str) -> str:
    """A name for one part of an address, as urllib.parse.quote makes it."""
    return "".join(chr(each) if chr(each) in UNQUOTED else f"%{each:02X}" for each in text.encode(errors="surrogateescape"))


def attachment_address(name: str) -> str:
    """Where an attachment is in the API."""
    return f"/v1/attachments/{quoted(name)}"


def _peer_pid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _failure(error: Fields) -> Exception:
    kind, what, hint = error.text("kind"), error.text("what"), error.text("hint")
    return KINDS[kind](what, hint=hint) if kind in KINDS else Refused(what, hint=hint)
