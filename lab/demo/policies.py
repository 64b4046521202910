"""The two ways to give a policy: a file in the folder of the one cell, or commands at cells that share a store."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lab.cell import Cell
from lab.demo.screen import Screen

WEB, API = "acme/shop/web", "acme/shop/api"
POLICY = """\
policies:
  - name: web-to-api-{port}
    from: acme/shop/web
    to: acme/shop/api
    tcp: [{port}]
"""


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """Files that are renamed into place and removed."""

    screen: Screen
    cell: Cell
    given: ClassVar[str] = "A policy file is dropped in"
    taken: ClassVar[str] = "The policy is removed while a connection lives"
    when_given: ClassVar[str] = "after the file was renamed into place"
    when_taken: ClassVar[str] = "after the file was removed (50 ms of it to be sure that no editor is about to put it back)"

    def allow(self, port: int) -> float:
        """web may call api on a port from now on; returns the moment of the change."""
        text, file = POLICY.format(port=port), self._file(port)
        new = file.with_name(f".{file.name}.new")
        new.write_text(text)
        self.screen.ran(f"cat {new.name}")
        self.screen.came(text)
        since = time.monotonic()
        new.rename(file)
        self.screen.ran(f"mv {new.name} /etc/cellnet/policies.d/{file.name}")
        return since

    def revoke(self, port: int) -> float:
        """The opposite of `allow`."""
        since = time.monotonic()
        self._file(port).unlink()
        self.screen.ran(f"rm /etc/cellnet/policies.d/{self._file(port).name}")
        return since

    def _file(self, port: int) -> Path:
        return self.cell.policies / f"shop-{port}.yaml"


@dataclass(frozen=True, slots=True)
class StoredPolicies:
    """Commands at `cell`, for the store that it shares with others."""

    screen: Screen
    cell: Cell
    taken: ClassVar[str] = "The policy is deleted while a connection lives"
    when_given: ClassVar[str] = "after the command was typed"
    when_taken: ClassVar[str] = when_given

    @property
    def given(self) -> str:
        """The title of the step that gives the first policy."""
        return f"A policy is stored from cell {self.cell.number}, where neither of them runs"

    def allow(self, port: int) -> float:
        """As PolicyFiles.allow."""
        return self._policy("allow", port)

    def revoke(self, port: int) -> float:
        """As PolicyFiles.revoke."""
        return self._policy("delete", port)

    def _policy(self, word: str, port: int) -> float:
        since = time.monotonic()
        self.screen.cellnet(self.cell, "policy", word, WEB, API, f"tcp/{port}")
        return since


Policies = PolicyFiles | StoredPolicies
