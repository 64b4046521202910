"""Which policies flows have used is known by each policy that allows them, over restarts, and with the moment it began."""

from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from agent.insight.flows.live_flow import LiveFlow
from agent.insight.flows.looks import FlowLook, FlowLooks
from agent.insight.policy_use import NEW, SAVED, PolicyUse
from agent.model.names import AppName
from agent.model.outside import NOTHING_INSIDE
from agent.model.policy import Policy, Protocol
from agent.policy.in_force import speaking_of
from agent.policy.language.language import parse
from agent.policy.parties import Party
from agent.policy.rights.outside import OutsideResolver
from agent.policy.rights.resolve import PolicyResolver

NOON = int(datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp())
HERE = frozenset(map(AppName.parse, ("acme/shop/web", "acme/shop/api")))
DIRECT = "- {name: direct, from: acme/shop/web, to: acme/shop/api, tcp: 8080}\n"
WIDE = "- {name: wide, from: same-space, to: acme/shop/*, tcp: any}\n"
OTHER = "- {name: other, from: acme/shop/web, to: acme/shop/api, tcp: 9000}\n"
ELSEWHERE = "- {name: elsewhere, from: acme/shop/web, to: acme/shop/db, tcp: 5432}\n"
BACK = "- {name: back, from: acme/shop/api, to: acme/shop/web, tcp: 9000}\n"
OUT = "- {name: out, from: acme/shop/web, to: {host: [api.example.com]}, tcp: [443]}\n"


def policies(*rules: str) -> tuple[Policy, ...]:
    return parse(("policies:\n" + "".join(rules)).encode(), source="/etc/shop.yaml", inside=NOTHING_INSIDE)


class GivenFlows(FlowLooks):
    """Sees what it is given."""

    def __init__(self) -> None:
        self.flows: list[LiveFlow] = []

    async def look(self, *, new: bool = False) -> FlowLook:
        return FlowLook(datetime.fromtimestamp(NOON, UTC), tuple(self.flows), True, False, False)

    def see(self, to: str, port: int, *, source: str = "acme/shop/web") -> None:
        self.flows = [LiveFlow("1", source, to, "10.255.1.2", 1, "10.255.1.3", "tcp", port, "closed", "", "")]


class Scene:
    """Agents one after the other, with a clock that is set."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events" / "policy-use.json"
        self.held = policies(DIRECT, OTHER)
        self.seconds = 0.0
        self.flows = GivenFlows()
        self.use = self.start()

    def start(self) -> PolicyUse:
        self.use = PolicyUse(
            self.path, self.flows, in_force=self.in_force, allowing=self.allowing,
            names_of=lambda address: ("x-.example.org", "api.example.com") if address == IPv4Address("192.0.2.7") else (),
            now=lambda: NOON + self.seconds, elapsed=lambda: self.seconds,
        )  # fmt: skip
        return self.use

    async def in_force(self) -> tuple[Policy, ...]:
        return self.held

    async def allowing(self, source: Party, to: Party, protocol: Protocol, port: int) -> tuple[Policy, ...]:
        resolver, outside = PolicyResolver(), OutsideResolver()
        resolver.follow(self.held)
        outside.follow(self.held)
        found = speaking_of(source, to, resolver, outside)
        return tuple(each for each in found if any(port in ports for ports in each.ports(protocol)))

    async def unused(self, *, within: float | None = None) -> dict[str, tuple[int, int | None]]:
        """By name: seconds since noon at which it began to be looked for, and at which it was used."""
        found = await self.use.unused(HERE, within=within)
        return {
            each.policy.name: (
                int(each.watched.timestamp()) - NOON,
                None if each.used is None else int(each.used.timestamp()) - NOON,
            )
            for each in found.policies
        }


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_flow_uses_the_policy_that_allows_it_even_if_it_is_over(scene: Scene) -> None:
    scene.flows.see("acme/shop/api", 8080)
    assert await scene.unused() == {"other": (0, None)}


async def test_a_flow_uses_all_policies_that_allow_it(scene: Scene) -> None:
    scene.held = policies(DIRECT, WIDE, OTHER)
    scene.flows.see("acme/shop/api", 8080)
    assert set(await scene.unused()) == {"other"}


async def test_a_policy_that_names_a_host_is_used_by_flows_to_its_addresses(scene: Scene) -> None:
    scene.held = policies(OUT)
    scene.flows.see("192.0.2.8", 443)
    assert set(await scene.unused()) == {"out"}
    scene.flows.see("192.0.2.7", 443)
    assert await scene.unused() == {}


async def test_with_a_span_those_are_listed_that_were_used_before(scene: Scene) -> None:
    scene.flows.see("acme/shop/api", 8080)
    await scene.use.look()
    scene.flows.flows, scene.seconds = [], 100
    assert await scene.unused(within=100) == {"other": (0, None)}
    scene.seconds = 101
    assert await scene.unused(within=100) == {"other": (0, None), "direct": (0, 0)}
    assert await scene.unused() == {"other": (0, None)}


async def test_policies_for_containers_of_other_cells_are_counted_alone(scene: Scene) -> None:
    scene.held = policies(ELSEWHERE, OTHER)
    assert (await scene.use.unused(HERE, within=None)).elsewhere == 1
    assert set(await scene.unused()) == {"other"}


async def test_one_that_is_new_is_looked_for_since_then_and_one_that_stays_keeps_what_is_known(scene: Scene) -> None:
    scene.flows.see("acme/shop/api", 8080)
    await scene.use.look()
    scene.flows.flows, scene.seconds = [], 50
    scene.held = policies(WIDE, DIRECT)
    assert await scene.unused() == {"wide": (50, None)}
    scene.held = policies(DIRECT, OTHER, WIDE)
    scene.seconds = 60
    assert await scene.unused() == {"other": (60, None), "wide": (50, None)}


async def test_what_is_known_outlives_a_stop_and_all_but_ten_minutes_a_kill(scene: Scene) -> None:
    scene.flows.see("acme/shop/api", 8080)
    await scene.use.look()
    scene.use.save()
    scene.flows.flows, scene.seconds = [], 500
    scene.held = policies(DIRECT, OTHER, WIDE)  # changed while no agent ran
    scene.start()
    assert await scene.unused() == {"other": (0, None), "wide": (500, None)}
    scene.flows.see("acme/shop/api", 9000)
    scene.seconds = 500 + SAVED
    await scene.use.look()
    scene.flows.flows = []
    scene.start()
    assert await scene.unused() == {}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a": 1}', b"[" * 100_000, b'{"a": [1, "x"]}', b"\xff", b'{"a": [Infinity, 1]}']
)
async def test_a_damaged_file_means_that_it_begins_anew(scene: Scene, content: bytes) -> None:
    scene.path.parent.mkdir()
    scene.path.write_bytes(content)
    scene.seconds = 7
    assert await scene.unused() == {"direct": (7, None), "other": (7, None)}


async def test_no_moment_of_a_clock_that_was_ahead_is_believed(scene: Scene) -> None:
    scene.seconds = 10_000
    scene.flows.see("acme/shop/api", 8080)
    await scene.use.look()
    scene.use.save()
    scene.seconds, scene.flows.flows = 0, []
    scene.start()
    assert await scene.unused(within=60) == {"other": (0, None)}
    scene.seconds = 61
    assert await scene.unused(within=60) == {"other": (0, None), "direct": (0, 0)}


async def test_what_cannot_be_written_stops_nothing(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "events").touch()
    await scene.use.look()
    scene.use.save()
    assert set(await scene.unused()) == {"direct", "other"}


async def test_a_container_that_calls_without_end_costs_a_bound_and_hides_no_other_for_long(scene: Scene) -> None:
    scene.held = policies(WIDE, OTHER)
    asked = list[int]()
    allowing = scene.allowing

    async def counting(source: Party, to: Party, protocol: Protocol, port: int) -> tuple[Policy, ...]:
        asked.append(port)
        return await allowing(source, to, protocol, port) if port == 9000 else ()

    scene.allowing = counting  # type: ignore[method-assign]
    scene.start()
    flood = [flow(port) for port in range(1, 4 * NEW)]
    scene.flows.flows = flood
    await scene.use.look()
    assert len(asked) == NEW
    other = LiveFlow("1", "acme/shop/api", "acme/shop/web", "10.255.1.3", 1, "10.255.1.2", "tcp", 9000, "open", "", "")
    scene.held = policies(WIDE, BACK)
    scene.flows.flows = [*flood, other]
    await scene.use.look()
    assert await scene.unused() == {}
    assert len(asked) == 3 * NEW


def flow(port: int) -> LiveFlow:
    return LiveFlow("1", "acme/shop/web", "acme/shop/api", "10.255.1.2", 1, "10.255.1.3", "tcp", port, "open", "", "")


async def test_a_flow_that_goes_on_uses_a_policy_that_comes_to_allow_it(scene: Scene) -> None:
    scene.flows.see("acme/shop/api", 8080)
    await scene.use.look()
    scene.held = policies(DIRECT, WIDE)
    assert await scene.unused() == {}
