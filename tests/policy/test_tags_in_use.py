"""Tags follow use: named or attached apps have one, others give theirs back."""

from collections.abc import Collection, Mapping

from agent.model.names import AppName
from agent.model.policy import AppPolicy, Origin, Pattern, Ports, Scope
from agent.policy.tags_in_use import TagsInUse
from tests.testlib.fakes.store import MemoryStore

WEEK = 7 * 24 * 3600
WEB, API = AppName("acme", "shop", "web"), AppName("acme", "shop", "api")


def policy(source: AppName, to: AppName) -> AppPolicy:
    exact = [Pattern(each.org, each.space, each.app) for each in (source, to)]
    return AppPolicy("p", (exact[0], Scope.SAME_SPACE), exact[1], tcp=(Ports(80, 80),), origin=Origin("file", 1, 1))


def policies(*rules: AppPolicy) -> tuple[AppPolicy, ...]:
    return rules


async def test_every_app_that_a_policy_names_has_a_tag_before_any_instance() -> None:
    tags = await TagsInUse(MemoryStore(), earliest=lambda: 0, latest=lambda: 0).follow(policies(policy(WEB, API)), [])
    assert tags.keys() == {WEB, API}
    assert len(set(tags.values())) == 2


async def test_a_tag_that_nothing_refers_to_is_given_back_and_rests_a_week() -> None:
    store, now = MemoryStore(), 0.0
    tagging = TagsInUse(store, earliest=lambda: now, latest=lambda: now)
    old = await tagging.follow(policies(policy(WEB, API)), [])
    assert not await tagging.follow(policies(), [])
    now = WEEK - 1
    other = AppName("acme", "shop", "other")
    assert (await tagging.follow(policies(policy(other, other)), []))[other] not in old.values()


async def test_an_app_that_another_policy_still_names_keeps_its_tag() -> None:
    tagging = TagsInUse(MemoryStore(), earliest=lambda: 0, latest=lambda: 0)
    third = AppName("acme", "shop", "third")
    both = await tagging.follow(policies(policy(WEB, API), policy(third, API)), [])
    assert both.keys() == {WEB, API, third}
    one = await tagging.follow(policies(policy(third, API)), [])
    assert (one.keys(), one[API]) == ({third, API}, both[API])


async def test_too_many_apps_are_a_problem_that_leaves_the_tags_there_are() -> None:
    store = MemoryStore(last_tag=2)
    tagging = TagsInUse(store, earliest=lambda: 0, latest=lambda: 0)
    first = await tagging.follow(policies(policy(WEB, API)), [])
    third = AppName("acme", "shop", "third")
    assert await tagging.follow(policies(policy(WEB, API), policy(third, third)), []) == first
    assert tagging.problem is not None
    await tagging.follow(policies(policy(WEB, API)), [])
    assert tagging.problem is None


class Telling(MemoryStore):
    """Remembers what was announced as needed when a tag was claimed."""

    def __init__(self) -> None:
        super().__init__()
        self.needed: frozenset[AppName] = frozenset()
        self.claimed_while: list[frozenset[AppName]] = []

    async def await_return(self) -> None:
        return

    async def refer(self, apps: Collection[AppName]) -> None:
        self.needed = frozenset(apps)
        await super().refer(apps)

    async def claim_tags(self, apps: Collection[AppName], *, now: float) -> Mapping[AppName, int]:
        self.claimed_while.append(self.needed)
        return await super().claim_tags(apps, now=now)


async def test_no_tag_is_claimed_before_the_other_cells_can_know_that_it_is_needed() -> None:
    store, third = Telling(), AppName("acme", "shop", "third")
    tagging = TagsInUse(store, earliest=lambda: 0, latest=lambda: 0, shared=store)
    await tagging.follow(policies(policy(WEB, API)), [], files=policies(policy(WEB, API)))
    await tagging.claim(third)
    assert store.claimed_while == [{WEB, API}, {WEB, API, third}]


async def test_a_declared_app_has_its_tag_and_all_cells_know_that_it_is_needed() -> None:
    store, declared = Telling(), {frozenset({API})}
    tagging = TagsInUse(store, earliest=lambda: 0, latest=lambda: 0, shared=store, declared=lambda: next(iter(declared)))
    assert await tagging.follow((), []) == {API: 1}
    assert store.needed == {API}
    declared.clear()
    declared.add(frozenset())
    assert await tagging.follow((), []) == {}
