"""Where nothing can be heard of flows, those who follow are told so, and it is a problem until something can be heard."""

import asyncio
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from unittest.mock import create_autospec

import pytest

from agent.insight.flows import followed as followed_flows
from agent.insight.flows.followed import NO_EVENTS, FollowedFlows
from agent.insight.flows.followers import EventKind, EventWish, Followers
from agent.insight.flows.named import FlowPlace, NamedFlows
from dataplane.flows.event_filter import EventFilter
from host.namespace import run_in
from tests.testlib.netns import Netns
from tests.testlib.patience import eventually_async

NETWORK, RESOLVER = IPv4Network("10.255.0.0/16"), IPv4Address("169.254.0.2")
NEW_FLOWS = EventWish(frozenset({EventKind.NEW}), lambda _: True)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def followed_from(host: Netns) -> None:
    followers = Followers()
    followed = FollowedFlows(
        followers, create_autospec(NamedFlows, instance=True), FlowPlace(NETWORK, NETWORK, lambda: None),
        cell="one", passes=EventFilter(NETWORK, RESOLVER), now=lambda: datetime.now(UTC),
    )  # fmt: skip
    task = asyncio.create_task(followed.run())
    try:
        with no_descriptor_left():
            follower = followers.join(NEW_FLOWS, uid=0)
            assert "cannot be followed: Too many open files" in await followed.ready()
            assert [each.area for each in followed.problems()] == ["kernel"]
        await eventually_async(lambda: not list(followed.problems()))
        followed.know_earlier(await followed.begins(after=0))
        assert await followed.ready() == ""
        host.run("sysctl", "-qw", "net.netfilter.nf_conntrack_events=0")
        assert await followed.ready() == NO_EVENTS
        followers.leave(follower)
        await eventually_async(lambda: not followed.goes_on(1))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_kernel_that_lets_nothing_be_heard_is_a_problem_until_it_does(
    netns: Callable[[str], Netns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed_flows, "AGAIN", 0.05)
    host = netns("followed")
    run_in(host.path, lambda: asyncio.run(followed_from(host)))
