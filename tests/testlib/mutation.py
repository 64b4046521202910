"""Taking out what protects, to see whether a test notices: single rules and settings of a running cell, put back afterwards.

`@stopped_by(...)` on a test names everything that stops its attack; `pytest tests/hostile --mutated` takes all of it out, runs
the test, and demands that the attack succeeds.
"""

import importlib
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import pytest

from tests.testlib.node import Node


@dataclass(frozen=True, slots=True)
class Ground:
    """What mutations change: a host, its iptables, and the words that stand for names, such as a container's interface.

    `others` are more hosts, by name.
    """

    host: Node
    backend: str
    words: dict[str, str]
    others: Mapping[str, Node] = field(default_factory=dict)

    def iptables(self, *words: str, family: int = 4) -> str:
        return self.host.run(f"ip{'6' if family == 6 else ''}tables-{self.backend}", *words)


@dataclass(frozen=True, slots=True)
class Without:
    """Every rule of a chain that contains `fragment` is out."""

    table: str
    chain: str
    fragment: str
    family: int = 4

    def __str__(self) -> str:
        return f"{self.table} {self.chain}: {self.fragment}"

    def make(self, ground: Ground) -> Callable[[], None]:
        chain, fragment = self.chain.format(**ground.words), self.fragment.format(**ground.words)
        listed = ground.iptables("-t", self.table, "-S", chain, family=self.family).splitlines()
        rules = [line for line in listed if line.startswith("-A")]
        gone = [(number, rule) for number, rule in enumerate(rules, 1) if fragment in rule]
        assert gone, f"nothing in {chain} has '{fragment}': {rules}"
        for number, _ in reversed(gone):
            ground.iptables("-t", self.table, "-D", chain, str(number), family=self.family)

        def undo() -> None:
            for number, rule in gone:
                ground.iptables("-t", self.table, "-I", chain, str(number), *shlex.split(rule)[2:], family=self.family)

        return undo


@dataclass(frozen=True, slots=True)
class With:
    """A rule that is not ours, first in a chain: for attacks that are stopped because there is no such rule."""

    table: str
    chain: str
    rule: str

    def __str__(self) -> str:
        return f"+ {self.table} {self.chain}: {self.rule}"

    def make(self, ground: Ground) -> Callable[[], None]:
        words = self.rule.format(**ground.words).split()
        chain = self.chain.format(**ground.words)
        ground.iptables("-t", self.table, "-I", chain, "1", *words)
        return lambda: (ground.iptables("-t", self.table, "-D", chain, *words), None)[1]


@dataclass(frozen=True, slots=True)
class Setting:
    """A sysctl of the host has another value; `key` may hold words."""

    key: str
    value: int

    def __str__(self) -> str:
        return f"{self.key}={self.value}"

    def make(self, ground: Ground) -> Callable[[], None]:
        key = self.key.format(**ground.words)
        old = ground.host.run("sysctl", "-n", key).strip()
        ground.host.run("sysctl", "-qw", f"{key}={self.value}")
        return lambda: (ground.host.run("sysctl", "-qw", f"{key}={old}"), None)[1]


@dataclass(frozen=True, slots=True)
class Kernel:
    """Nothing of ours to take out: the kernel stops the attack, and `why` explains how."""

    why: str

    def __str__(self) -> str:
        return f"(kernel: {self.why})"

    def make(self, ground: Ground) -> Callable[[], None]:
        del ground
        return lambda: None


@dataclass(frozen=True, slots=True)
class Member:
    """One more entry in a set of ours; `entry` may hold more, such as its mark."""

    of: str
    entry: str

    def __str__(self) -> str:
        return f"+ {self.of}: {self.entry}"

    def make(self, ground: Ground) -> Callable[[], None]:
        ground.host.run("ipset", "add", self.of, *self.entry.split())
        return lambda: (ground.host.run("ipset", "del", self.of, self.entry.split()[0]), None)[1]


@dataclass(frozen=True, slots=True)
class Ran:
    """A tool has changed something of the host; `undo` changes it back."""

    command: str
    undo: str

    def __str__(self) -> str:
        return self.command

    def make(self, ground: Ground) -> Callable[[], None]:
        ground.host.run(*self.command.format(**ground.words).split())
        return lambda: (ground.host.run(*self.undo.format(**ground.words).split()), None)[1]


@dataclass(frozen=True, slots=True)
class Code:
    """A function of a module is another one, for attacks on what a test runs in its own process; `what` says what is gone."""

    module: str
    name: str
    instead: Callable[..., object]
    what: str

    def __str__(self) -> str:
        return f"{self.module}: {self.what}"

    def make(self, ground: Ground) -> Callable[[], None]:
        del ground
        module = importlib.import_module(self.module)
        before = getattr(module, self.name)
        setattr(module, self.name, self.instead)
        return lambda: setattr(module, self.name, before)


@dataclass(frozen=True, slots=True)
class At:
    """A mutation of another host than the stage's first."""

    host: str
    change: "Without | With | Setting | Member"

    def __str__(self) -> str:
        return f"{self.host}: {self.change}"

    def make(self, ground: Ground) -> Callable[[], None]:
        return self.change.make(replace(ground, host=ground.others[self.host]))


Mutation = Without | With | Setting | Kernel | Member | Ran | Code | At


def stopped_by(*mutations: Mutation) -> pytest.MarkDecorator:
    """Mark a test with everything that stops its attack."""
    return pytest.mark.stopped_by(*mutations)


@contextmanager
def mutated(ground: Ground, mutations: tuple[Mutation, ...]) -> Iterator[None]:
    """All of them at once, undone afterwards."""
    with ExitStack() as stack:
        for each in mutations:
            stack.callback(each.make(ground))
        yield


def asked(config: pytest.Config) -> bool:
    """Whether this is a run of mutations."""
    return bool(config.getoption("--mutated", default=False))


@contextmanager
def perhaps_mutated(ground: Ground, request: pytest.FixtureRequest) -> Iterator[None]:
    """Without what stops the test's attack, if that is what the run is for."""
    marker = request.node.get_closest_marker("stopped_by")
    with mutated(ground, marker.args if marker and asked(request.config) else ()):
        yield
