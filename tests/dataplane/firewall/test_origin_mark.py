"""The mark that says which part of the overlay is a peer's, whatever the parts' size."""

from ipaddress import IPv4Network

import pytest

from dataplane.firewall.bpf import part_mark


@pytest.mark.parametrize(
    ("part", "mark"),
    [
        ("10.255.2.0/24", "10.255.2.128"),
        ("10.255.2.4/30", "10.255.2.6"),
        ("10.255.0.0/17", "10.255.64.0"),
        ("10.0.0.0/9", "10.64.0.0"),
    ],
)
def test_below_a_prefix_stands_one_bit(part: str, mark: str) -> None:
    assert str(part_mark(IPv4Network(part))) == mark
