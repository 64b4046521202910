"""Rules that no other program has changed are not read again; what another has changed is found, whenever that was."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from dataplane.firewall.backends.cached import CachedFirewall
from dataplane.firewall.backends.driver import FirewallTables
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.plan import ChainDelta, JumpDelta, diff
from dataplane.tables import ChainKey
from host.errors import HostRefused
from host.namespace import NamespaceThread
from tests.testlib.netns import Netns

Chains = Mapping[ChainKey, tuple[str, ...]]
FORWARD, TO, RAW = (
    ChainKey(4, "filter", "CELLNET-FORWARD"),
    ChainKey(4, "filter", "CELLNET-TO"),
    ChainKey(6, "raw", "CELLNET-IN"),
)
RULES = tuple(f"-p tcp -m mark --mark {tag:#x}/0xffff -j ACCEPT" for tag in range(1, 40))
WANTED: Chains = {FORWARD: ("-j CELLNET-TO",), TO: RULES[:3], RAW: ("-j DROP",)}
JUMPS = {ChainKey(4, "filter", "FORWARD"): (0,)}
NONE: Mapping[ChainKey, tuple[int, ...]] = {}


@dataclass
class Watched:
    """A backend that counts its reads, and beside which another program may act before and after what it writes."""

    backend: Any
    reads: int = 0
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def read(self) -> FirewallTables:
        self.reads += 1
        found: FirewallTables = self.backend.read()
        return found

    def apply(self, *, chains: ChainDelta, jumps: JumpDelta) -> None:
        self.before()
        self.backend.apply(chains=chains, jumps=jumps)
        self.after()


class Stage:
    """One namespace with what is cached of its rules, and another program (`foreign`)."""

    def __init__(self, netns: Netns, kind: str) -> None:
        self.netns, self.kind = netns, kind
        self.now = 0.0
        self.watched = Watched(NftFirewall() if kind == "nft" else LegacyFirewall())
        self.cached = CachedFirewall(self.watched, clock=lambda: self.now)
        self.thread = NamespaceThread(netns.path)
        self.chains: Chains = {}

    def read(self) -> FirewallTables:
        return self.thread.call(self.cached.read)

    def truth(self) -> FirewallTables:
        found: FirewallTables = self.thread.call(self.watched.backend.read)
        return found

    def write(self, chains: Chains, *, jumps: JumpDelta | None = None) -> None:
        changes, self.chains = diff(chains, self.chains), chains
        self.thread.call(lambda: self.cached.apply(chains=changes, jumps=jumps or diff(NONE, NONE)))

    def foreign(self, words: str) -> None:
        self.netns.run(f"iptables-{self.kind}", *words.split())


@pytest.fixture(params=["nft", "legacy"])
def stage(request: pytest.FixtureRequest, netns: Callable[[str], Netns]) -> Iterator[Stage]:
    made = Stage(netns("rules"), request.param)
    made.read()
    made.write(WANTED, jumps=diff(JUMPS, NONE))
    yield made
    made.thread.close()


def test_after_our_own_writes_no_rule_is_read(stage: Stage) -> None:
    stage.read()
    reads = stage.watched.reads
    for rules in (RULES[:4], RULES[5:9], RULES, ()):
        stage.write({**WANTED, TO: (*rules, "-j DROP")})
        assert stage.read() == stage.truth()
    stage.write({**WANTED, TO: ()}, jumps=diff(NONE, JUMPS))
    stage.write({RAW: WANTED[RAW]})
    assert stage.read() == stage.truth()
    assert stage.watched.reads == reads


def test_a_look_beside_our_own_write_reads_no_rule(stage: Stage) -> None:
    stage.read()
    reads, reader, looks = stage.watched.reads, NamespaceThread(stage.netns.path), []
    stage.watched.before = stage.watched.after = lambda: looks.append(reader.submit(stage.cached.read))
    stage.write({**WANTED, TO: RULES})
    assert [each.result() for each in looks] == [stage.truth()] * 2
    assert stage.watched.reads == reads
    reader.close()


def test_what_may_have_changed_nothing_is_read_again(stage: Stage) -> None:
    """A chain that is emptied alone: nft counts no change where it was empty, and another program's in its place would do."""
    stage.write({**WANTED, TO: RULES})
    stage.read()
    stage.watched.before = lambda: stage.foreign("-F")
    stage.write({**WANTED, TO: ()})
    assert stage.read() == stage.truth()


def test_an_unrelated_change_is_read_once(stage: Stage) -> None:
    stage.read()
    stage.foreign("-A INPUT -s 192.0.2.1 -j DROP")
    reads = stage.watched.reads
    assert [stage.read() for _ in range(3)] == [stage.truth()] * 3
    assert stage.watched.reads == reads + 1


@pytest.mark.parametrize("words", ["-F", "-F CELLNET-TO", "-D FORWARD -j CELLNET-FORWARD", "-I FORWARD -j ACCEPT"])
def test_what_another_program_has_changed_is_found_by_the_next_read(stage: Stage, words: str) -> None:
    stage.read()
    stage.foreign(words)
    assert stage.read() == stage.truth()


def test_a_change_of_legacy_that_keeps_all_sizes_is_found_within_a_minute(stage: Stage) -> None:
    stage.read()
    stage.foreign("-R CELLNET-TO 1 -p tcp -m mark --mark 0x77/0xffff -j ACCEPT")
    stage.now += 60.0
    assert stage.read() == stage.truth()


def test_changes_of_other_programs_beside_our_own_writes_are_found(netns: Callable[[str], Netns]) -> None:
    """Before, within and after a write, between read and write, whatever kind it is: the generation says so."""
    chosen = random.Random(10)
    stage = Stage(netns("rules"), "nft")
    stage.write(WANTED, jumps=diff(JUMPS, NONE))
    foreign = (
        "-R CELLNET-TO 1 -j ACCEPT", "-A CELLNET-TO -j ACCEPT", "-I FORWARD -j ACCEPT", "-F CELLNET-TO", "-N OTHER", "-X OTHER",
    )  # fmt: skip

    def disturb() -> None:
        for _ in range(chosen.choice((0, 0, 1, 2))):
            stage.netns.run("iptables-nft", *chosen.choice(foreign).split(), check=False)

    stage.watched.before = stage.watched.after = disturb
    for _ in range(40):
        rules = tuple(chosen.sample(RULES, chosen.randrange(20)))
        stage.chains = {**stage.truth().chains, FORWARD: WANTED[FORWARD], RAW: WANTED[RAW]}
        if chosen.random() < 0.5:
            stage.read()
        with suppress(HostRefused):  # a rule to be removed has gone
            stage.write({**WANTED, TO: rules})
        assert stage.read() == stage.truth()
    stage.thread.close()


def test_a_write_meanwhile_makes_a_read_worthless(stage: Stage) -> None:
    """Legacy: the stamp before and after a read may be the same though we have written between."""
    stage.read()
    read = stage.watched.backend.read

    def slow() -> FirewallTables:
        found: FirewallTables = read()
        changes = diff({**WANTED, TO: RULES[4:7]}, WANTED)
        stage.cached.apply(chains=changes, jumps=diff(NONE, NONE))
        return found

    stage.foreign("-A INPUT -s 192.0.2.1 -j DROP")
    stage.watched.read = slow  # type: ignore[method-assign]
    stage.read()
    stage.watched.read = read  # type: ignore[method-assign]
    assert stage.read() == stage.truth()
