"""10,000 swaps of chains under streams of connects: what is allowed is never refused, what is not is never let through."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import pytest

from dataplane.compile import compile_tables
from dataplane.firewall.backends.driver import Firewall
from dataplane.firewall.backends.legacy import LegacyFirewall
from dataplane.firewall.backends.nft import NftFirewall
from dataplane.firewall.backends.restore import restore_text
from dataplane.plan import Delta, diff
from dataplane.state import HostState
from dataplane.tables import ChainKey
from tests.testlib.hosts import FIRST, Host, allow, make_host
from tests.testlib.in_containers import connect_load
from tests.testlib.netns import Netns

BACKENDS: dict[str, NftFirewall | LegacyFirewall] = {"nft": NftFirewall(), "legacy": LegacyFirewall()}
pytestmark = pytest.mark.timeout(300)
SWAPS, SINGLY, TOGETHER = 10_000, 200, 250
ENOUGH = 5_000  # connects of each stream meanwhile
STATES = 40
SEED = 8080
NOTHING: Delta[ChainKey, tuple[int, ...]] = Delta({}, {}, {}, {})
Chains = Delta[ChainKey, tuple[str, ...]]


@dataclass(frozen=True)
class Stream:
    """A client that connects again and again."""

    process: "subprocess.Popen[bytes]"

    def so_far(self) -> Counter[str]:
        """What came of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"?\n")
        self.process.stdin.flush()
        return Counter(json.loads(self.process.stdout.readline()))


@dataclass(frozen=True)
class Streams:
    """web may call api on 8080, and neither on 9090; other may call no container."""

    host: Host
    allowed: Stream
    denied: tuple[Stream, Stream]

    def so_far(self) -> list[Counter[str]]:
        return [each.so_far() for each in (self.allowed, *self.denied)]


@pytest.fixture(params=BACKENDS)
def firewall(request: pytest.FixtureRequest) -> NftFirewall | LegacyFirewall:
    return BACKENDS[request.param]


@pytest.fixture
def streams(netns: Callable[[str], Netns], firewall: Firewall) -> Iterator[Streams]:
    host = make_host(netns, containers=3, firewall=firewall)
    # what was reset is forgotten soon: a port that is used again must meet the rules again
    host.netns.run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_close=1")
    host.become(some_state(host, random.Random(0), strangers=0))
    web, api, other = host.containers
    with ExitStack() as stack:
        stack.callback(host.kernel.close)

        def started(place: Netns, *words: object) -> "subprocess.Popen[bytes]":
            argv = [sys.executable, "-IS", connect_load.__file__, *map(str, words)]
            made = stack.enter_context(place.start(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(made.kill)
            return made

        for port in (8080, 9090):
            server = started(api, port)
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
        to = FIRST + 1
        yield Streams(host, Stream(started(web, to, 8080)), (Stream(started(web, to, 9090)), Stream(started(other, to, 8080))))


def some_state(host: Host, chance: random.Random, *, strangers: int) -> HostState:
    """Always the same for web, api and other, and always different around it."""
    rights = [allow(chance.randrange(1, 1000), str(chance.randrange(1, 65535))) for _ in range(chance.randrange(20))]
    rights = [each for each in rights if (each.tag, each.first) not in ((500, 9090), (900, 8080))]
    api = host.workload(1, allow(500, "8080"), *rights, tag=501)
    others = [replace(api, address=FIRST + each, allows=frozenset()) for each in chance.sample(range(3, 30), strangers)]
    return host.with_workloads(host.workload(0, tag=500), api, host.workload(2, tag=900), *others)


class Swaps:
    """Changes of chains without end, each from where the last one has led; `host.state` is where that is."""

    def __init__(self, host: Host, *, strangers: int) -> None:
        self._host, self._chance = host, random.Random(SEED)
        self._states = [host.state, *(some_state(host, self._chance, strangers=strangers) for _ in range(STATES - 1))]
        self._chains = [compile_tables(state).chains for state in self._states]
        self._now = 0

    def next(self, count: int) -> list[Chains]:
        """So many more."""
        found: list[Chains] = []
        while len(found) < count:
            after = self._chance.randrange(STATES)
            if changes := diff(self._chains[after], self._chains[self._now]):
                found.append(changes)
                self._now, self._host.state = after, self._states[after]
        return found


def singly(firewall: Firewall, changes: list[Chains]) -> None:
    """As the agent does it when a policy changes."""
    for each in changes:
        firewall.apply(chains=each, jumps=NOTHING)


def together(firewall: NftFirewall | LegacyFirewall, changes: list[Chains]) -> None:
    """The same commits without starting a tool for each."""
    firewall.restore("".join(restore_text(family=4, chains=each, jumps=NOTHING) for each in changes), family=4)


def test_ten_thousand_swaps_refuse_no_allowed_call_and_let_no_other_through(
    streams: Streams, firewall: NftFirewall | LegacyFirewall
) -> None:
    host, before = streams.host, streams.so_far()
    host.kernel.submit(partial(singly, firewall, Swaps(host, strangers=0).next(SINGLY))).result()
    swaps = Swaps(host, strangers=4)
    done, meanwhile = SINGLY, before
    while done < SWAPS or min(each.total() for each in meanwhile) < ENOUGH:
        host.kernel.submit(partial(together, firewall, swaps.next(TOGETHER))).result()
        done += TOGETHER
        meanwhile = [now - then for now, then in zip(streams.so_far(), before, strict=True)]
    print(f"{done} swaps, {meanwhile}")
    assert [set(each) for each in meanwhile] == [{"connected"}, {"ECONNREFUSED"}, {"ECONNREFUSED"}]
    assert not host.left_to_do().chains
