"""The control API's client: standard library only, since every short command starts with it."""

import http.client
import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, urlencode

from agent import last_start
from agent.client.answer import Fields
from agent.errors import Bug, CellnetError, Conflict, HostRefused, InvalidInput, Unavailable

RequestBody: TypeAlias = Mapping[str, "str | int | float | bool | Sequence[str] | Sequence[int] | Mapping[str, str] | None"]

ANSWER_WITHIN = 90.0
"""Seconds: more than the agent gives itself, so that its own error arrives."""
KINDS: Mapping[str, type[CellnetError]] = {
    kind.__name__: kind for kind in (InvalidInput, Conflict, HostRefused, Unavailable, Bug)
}


class Refused(RuntimeError):
    """The agent refused in a way that has no name of its own here: not found, not permitted."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class _AgentConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, *, within: float) -> None:
        super().__init__("cell", timeout=within)
        self._path = path

    def connect(self) -> None:
        """A socket's address holds 107 bytes; through its folder's descriptor any path fits."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self.timeout)
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and the pid of the agent that gave it (0 where it cannot be seen from here)."""

    fields: Fields
    agent_pid: int


@dataclass(frozen=True, slots=True)
class Client:
    """Calls the agent whose control socket is at `path`. Raises the errors of agent/errors.py, and Refused."""

    path: Path

    def get(self, address: str, **query: str) -> Fields:
        """Read something."""
        return self.ask("GET", address + ("?" + urlencode(query) if query else "")).fields

    def post(self, address: str, body: RequestBody, *, within: float = ANSWER_WITHIN) -> Fields:
        """Have something done; `within` is in seconds."""
        return self.ask("POST", address, body, within=within).fields

    def delete(self, address: str, body: RequestBody | None = None, *, within: float = ANSWER_WITHIN) -> Fields:
        """Remove something; `within` is in seconds."""
        return self.ask("DELETE", address, body or None, within=within).fields

    def ask(self, method: str, address: str, body: RequestBody | None = None, *, within: float = ANSWER_WITHIN) -> Reply:
        """One request over a connection of its own."""
        connection = _AgentConnection(self.path, within=within)
        content = None if body is None else json.dumps({key: value for key, value in body.items() if value is not None})
        try:
            self._connect(connection)
            pid = _peer_pid(connection.sock)
            connection.request(method, address, content, {"Content-Type": "application/json"} if content else {})
            response = connection.getresponse()
            fields = Fields.parse(response.read())
        except TimeoutError as error:
            raise Unavailable(f"the agent at {self.path} did not answer within {within:g} s", hint="see its log") from error
        except (http.client.HTTPException, ConnectionError) as error:
            if isinstance(error, Unavailable):
                raise
            raise Unavailable("the agent went away before it answered", hint="see its log, then try again") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise _failure(fields.at("error"))
        return Reply(fields, pid)

    def _connect(self, connection: _AgentConnection) -> None:
        try:
            connection.connect()
        except PermissionError as error:
            raise Refused(f"you may not use {self.path}", hint="be root, or in group cellnet to look") from error
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            failed = last_start.read(self.path.parent)
            if failed is not None:
                what = f"no agent answers at {self.path}: its last start failed: {failed.what}"
                raise Unavailable(what, hint=failed.hint) from error
            raise Unavailable(
                f"no agent answers at {self.path}", hint="start it with 'cellnet up' or systemctl start cellnet-agent"
            ) from error


def attachment_address(name: str) -> str:
    """Where an attachment is in the API."""
    return f"/v1/attachments/{quote(name, safe='')}"


def _peer_pid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _failure(error: Fields) -> Exception:
    kind, what, hint = error.text("kind"), error.text("what"), error.text("hint")
    return KINDS[kind](what, hint=hint) if kind in KINDS else Refused(what, hint=hint)
