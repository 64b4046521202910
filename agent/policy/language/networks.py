"""Networks of the outside as users write them: `192.0.2.0/24`, or `192.0.2.7` for one address."""

import re
from ipaddress import IPv4Network, IPv6Network

from agent.config.values import clipped
from agent.errors import InvalidInput

HINT = "an address such as 192.0.2.7, or a network such as 192.0.2.0/24"
NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)+(?:/[0-9.]*)?")
IPV6 = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*(?:/[0-9]*)?")


def looks_like_address(text: str) -> bool:
    """Whether an address or a network is meant by it, right or wrong."""
    return NUMBERS.fullmatch(text) is not None or IPV6.fullmatch(text) is not None


def parse_network(text: str) -> IPv4Network:
    """Raises InvalidInput, with the network that is meant where that can be told."""
    if _is_ipv6(text):
        raise InvalidInput(f"'{clipped(text)}' is IPv6", hint="containers have IPv4 alone: name an IPv4 network")
    address, slash, prefix = text.partition("/")
    if NUMBERS.fullmatch(text) is None or (slash and not prefix):
        raise InvalidInput(f"'{clipped(text)}' is not a network", hint=HINT)
    try:
        found = IPv4Network(text, strict=False)
    except ValueError as error:
        raise InvalidInput(f"'{clipped(text)}' is not a network: {_why(address)}", hint=HINT) from error
    if slash and prefix != str(found.prefixlen):  # 255.255.255.0, 0.0.0.255 and 024 are read as something, too
        raise InvalidInput(f"'{clipped(text)}' has no plain prefix length", hint=f"did you mean {found}?")
    if slash and address != str(found.network_address):
        raise InvalidInput(
            f"'{clipped(text)}' is an address within {found}", hint=f"did you mean the network {found}, or {address}/32 alone?"
        )
    return found


def _why(address: str) -> str:
    numbers = address.split(".")
    if len(numbers) != 4:
        return "an address has four numbers"
    if any(len(each) > 1 and each.startswith("0") for each in numbers):
        return "numbers begin with no 0"
    return "its numbers are 0 to 255, its prefix length 0 to 32"


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Network(text, strict=False)
    except ValueError:
        return False
    return True
