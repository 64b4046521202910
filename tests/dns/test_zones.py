"""Reverse zones hold the addresses of a network and no others; limits leave something for every container."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.dns.limits import CALLS_OPEN, CHILDREN, OWN_CALLS, most_children, open_calls
from dataplane.dns.zones import reverse_zones


@pytest.mark.parametrize(
    ("network", "zones"),
    [
        ("10.0.0.0/8", ("10.in-addr.arpa",)),
        ("10.255.0.0/16", ("255.10.in-addr.arpa",)),
        ("192.0.2.0/24", ("2.0.192.in-addr.arpa",)),
        ("10.254.0.0/15", ("254.10.in-addr.arpa", "255.10.in-addr.arpa")),
        ("192.0.2.8/29", tuple(f"{number}.2.0.192.in-addr.arpa" for number in range(8, 16))),
    ],
)
def test_zones_of_networks(network: str, zones: tuple[str, ...]) -> None:
    assert reverse_zones(IPv4Network(network)) == zones


@given(st.integers(8, 29), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_an_address_is_in_a_zone_exactly_if_it_is_in_the_network(length: int, base: int, other: int) -> None:
    network = IPv4Network((base, length), strict=False)
    zones = reverse_zones(network)
    for address in (network[0], network[-1], network[other % network.num_addresses], type(network[0])(other)):
        name = address.reverse_pointer
        assert any(name == zone or name.endswith(f".{zone}") for zone in zones) == (address in network)


@pytest.mark.parametrize(("length", "each"), [(24, CALLS_OPEN), (26, CALLS_OPEN), (23, 2), (22, 1), (20, 1), (9, 1)])
def test_all_containers_at_their_limit_leave_the_host_a_connection(length: int, each: int) -> None:
    addresses = 2 ** (32 - length)
    assert open_calls(addresses) == each
    if addresses <= CHILDREN:
        assert most_children(addresses) >= each * addresses + OWN_CALLS
    assert most_children(addresses) <= CHILDREN + OWN_CALLS
