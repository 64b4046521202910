"""Who is asked about: an app, or one end of a connection that is outside."""

from ipaddress import IPv4Address
from typing import TypeAlias

from agent.errors import InvalidInput
from agent.model.names import AppName
from agent.model.outside import HostPattern
from agent.policy.language.host_names import looks_like_host, parse_host
from agent.policy.language.networks import looks_like_address, parse_network
from agent.policy.rights.outside import Stranger

Party: TypeAlias = AppName | Stranger


def party_of(text: str) -> Party:
    """`acme/shop/web`, `192.0.2.7` or `api.example.com`. Raises InvalidInput."""
    if looks_like_address(text):
        return _address(text)
    if looks_like_host(text):
        return _host(text)
    return AppName.parse(text)


def _address(text: str) -> IPv4Address:
    network = parse_network(text)
    if network.num_addresses > 1:
        raise InvalidInput(f"{network} is more than one address", hint=f"ask for one, e.g. {network[1]}")
    return network.network_address


def _host(text: str) -> HostPattern:
    host = parse_host(text)
    if host.below:
        raise InvalidInput(f"'{host}' is more than one name", hint=f"ask for one, e.g. api.{host.name}")
    return host
