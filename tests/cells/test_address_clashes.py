"""What else has addresses of ours: one line for each kind, refused only where nothing runs yet."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

import pytest

from agent.cells.address_clashes import AddressClashes
from agent.errors import Conflict
from dataplane.netlink.underlay import Clash

OVERLAY, RESOLVER = IPv4Network("10.255.0.0/16"), IPv4Address("169.254.0.2")
ROUTE = Clash(IPv4Network("10.255.7.0/24"), "route 10.255.7.0/24 on eth0")
ADDRESS = Clash(IPv4Network("169.254.0.2/32"), "address 169.254.0.2/16 of eth1")


@pytest.mark.parametrize(
    ("found", "areas", "words"),
    [
        ((), [], ""),
        ((ROUTE,), ["overlay"], "the overlay network 10.255.0.0/16 overlaps what this host uses: route 10.255.7.0/24 on eth0"),
        (
            (ADDRESS,),
            ["dns"],
            "the resolver's address 169.254.0.2 is another program's on this host: address 169.254.0.2/16 of eth1",
        ),
        ((ADDRESS, ROUTE), ["overlay", "dns"], "overlaps what this host uses: route"),
    ],
)
async def test_each_kind_is_a_problem_and_a_refusal(found: Sequence[Clash], areas: list[str], words: str) -> None:
    async def read() -> Sequence[Clash]:
        return found

    clashes = AddressClashes(read, overlay=OVERLAY, resolver=RESOLVER)
    await clashes.look()
    assert [each.area for each in clashes.problems()] == areas
    if not found:
        clashes.refuse()
        return
    assert words in next(iter(clashes.problems())).what
    with pytest.raises(Conflict) as refused:
        clashes.refuse()
    assert words in refused.value.what
