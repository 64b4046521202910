"""Zones of reverse names: those that hold the addresses of a network. Pure."""

from ipaddress import IPv4Network


def reverse_zones(network: IPv4Network) -> tuple[str, ...]:
    """`255.10.in-addr.arpa` for 10.255.0.0/16. They are cut at octets: a /15 has two of them, a /20 sixteen."""
    octets = max(1, -(-network.prefixlen // 8))
    return tuple(
        ".".join(reversed(str(each.network_address).split(".")[:octets])) + ".in-addr.arpa"
        for each in network.subnets(new_prefix=8 * octets)
    )
