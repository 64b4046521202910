"""A container may have asked for a name that no policy could name, below one that a policy names: flows to it are known."""

from collections.abc import Mapping
from ipaddress import IPv4Address

from agent.insight.explain.policies import PolicySteps
from agent.insight.explain.way import AskedWay
from agent.insight.flows.rights_in_force import RightsInForce
from agent.insight.names_outside import MOST
from agent.model.names import AppName
from agent.model.outside import NOTHING_INSIDE
from agent.model.policy import Policy, Protocol
from agent.policy.in_force import speaking_of
from agent.policy.language.language import parse
from agent.policy.parties import Party, party_of
from agent.policy.rights.outside import OutsideResolver
from agent.policy.rights.resolve import PolicyResolver

WEB, THERE = AppName.parse("acme/shop/web"), IPv4Address("192.0.2.7")
OUT = b"policies:\n- {name: out, from: acme/shop/web, to: {host: ['*.example.org']}, tcp: [443]}\n"
ODD, PLAIN = "x-.example.org", "x.example.org"


async def check(source: Party, to: Party, _protocol: Protocol, _port: int) -> Policy | None:
    outside = OutsideResolver()
    outside.follow(parse(OUT, source="/etc/shop.yaml", inside=NOTHING_INSIDE))
    return next(iter(speaking_of(source, to, PolicyResolver(), outside)), None)


async def in_force() -> object:
    return None


async def test_a_flow_by_a_name_that_no_policy_could_name_has_the_right_of_what_it_is_below() -> None:
    rights = RightsInForce(check, in_force=in_force, names_of=lambda _: (ODD,))
    assert (await rights.right(WEB, THERE, Protocol.TCP, 443)).policy == "out"


async def explained(*names: str) -> tuple[bool | None, int]:
    """Whether a policy allows the way to THERE, and how many questions that took."""
    asked = list[str]()

    async def answer(query: Mapping[str, str]) -> Mapping[str, object]:
        asked.append(query["to"])
        found = await check(WEB, party_of(query["to"]), Protocol.TCP, 443)
        by = {"by": "out", "origin": "/etc/shop.yaml:2", "until": None, "mode": None, "note": ""}
        near: Mapping[str, object] = {"notices": (), "ports": (), "reverse": None, "not_on": ()}
        return {"allowed": found is not None, **by, **near}

    steps = PolicySteps(
        check=answer, unsettled=lambda: (), cut_off=lambda: "", names_of=lambda _: names, addresses=lambda _: ()
    )
    found, *_ = await steps.steps(AskedWay(WEB, THERE, Protocol.TCP, 443, "tcp/443"))
    return found.ok, len(asked)


async def test_a_name_that_cannot_be_asked_about_keeps_no_other_from_being_found() -> None:
    assert await explained(ODD, PLAIN) == (True, 3)


async def test_of_an_address_with_any_number_of_names_some_are_asked_about() -> None:
    assert await explained(*(f"{number}.example.net" for number in range(1_000))) == (False, 1 + MOST)
