"""Which part of the overlay a cell gets, whatever claims there are."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Conflict
from agent.store.subnets import REST, SubnetClaim, choose

NETWORK = IPv4Network("10.0.0.0/21")
NOW = 100 * REST


def get(claims: dict[IPv4Network, SubnetClaim], cell: str = "new", *, prefix: int = 24) -> IPv4Network:
    return choose(claims, cell, network=NETWORK, cell_prefix=prefix, now=NOW)


def test_unused_parts_come_first_then_the_longest_rested() -> None:
    released = {1: NOW - 2 * REST, 2: NOW - 3 * REST, 3: NOW - REST + 1, 4: None, 5: NOW - REST}
    claims = {IPv4Network(f"10.0.{part}.0/24"): SubnetClaim(f"c{part}", "", when) for part, when in released.items()}
    got: list[str] = []
    for number in range(5):
        got.append(str(mine := get(claims, f"new-{number}")))
        claims[mine] = SubnetClaim(f"new-{number}")
    assert got == ["10.0.6.0/24", "10.0.7.0/24", "10.0.2.0/24", "10.0.1.0/24", "10.0.5.0/24"]
    with pytest.raises(Conflict, match="6 cells have one, and 1 of removed ones rest for a week"):
        get(claims, "last")


def test_a_claim_of_the_whole_world_takes_no_memory_and_leaves_nothing() -> None:
    with pytest.raises(Conflict):
        choose(
            {IPv4Network("0.0.0.0/0"): SubnetClaim("liar")}, "new", network=IPv4Network("10.0.0.0/8"), cell_prefix=30, now=NOW
        )


claim = st.tuples(
    st.integers(20, 28), st.integers(0, 255), st.sampled_from("abcd"),
    st.sampled_from([None, NOW - 3 * REST, NOW - REST, NOW - REST + 1, NOW + REST]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(made=st.lists(claim, max_size=12), prefix=st.integers(21, 28))
def test_a_new_part_overlaps_none_that_is_held_or_rests(made: list[tuple[int, int, str, float | None]], prefix: int) -> None:
    claims: dict[IPv4Network, SubnetClaim] = {}
    for length, part, cell, released in made:
        subnet = IPv4Network((int(NETWORK.network_address) + part * 16, length), strict=False)
        claims[subnet] = SubnetClaim(cell, "", released)
    barred = [subnet for subnet, held in claims.items() if held.released is None or NOW - held.released < REST]
    parts = list(NETWORK.subnets(new_prefix=prefix))
    parts = parts[1:] or parts
    free = [part for part in parts if not any(part.overlaps(other) for other in barred)]
    never = [part for part in free if not any(part.overlaps(other) for other in claims)]
    try:
        mine = get(claims, prefix=prefix)
    except Conflict:
        assert not free
    else:
        assert mine == never[0] if never else mine in free


@given(made=st.lists(claim, max_size=6))
def test_a_cell_gets_its_own_back_whether_it_rests_or_not(made: list[tuple[int, int, str, float | None]]) -> None:
    claims = {IPv4Network((part * 16, length), strict=False): SubnetClaim(cell, "", when) for length, part, cell, when in made}
    own = IPv4Network("10.0.5.0/24")
    for released in (None, NOW, NOW - 2 * REST):
        assert get(claims | {own: SubnetClaim("new", "", released)}) == own
