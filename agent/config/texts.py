"""What the texts of agent.yaml mean: names, addresses, durations, paths. Each raises InvalidInput with a hint."""

import re
from datetime import timedelta
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path

from agent.config.problems import UNPRINTABLE
from agent.errors import InvalidInput

LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
LABEL_TEXT = re.compile(LABEL)
DOMAIN = re.compile(rf"{LABEL}(?:\.{LABEL})*")
INTERFACE = re.compile(r"[^\s/:]{1,15}")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
UNUSABLE = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))
LONGEST = timedelta(days=3650)
MEANT_OTHERWISE = {
    "arpa": "where addresses have their names",
    "invalid": "where by its definition no name exists",
    "localhost": "which is each computer itself",
}
"""Domains whose names resolvers answer by themselves, or by which cellnet asks its own (`dataplane/dns/probe.py`)."""
FOR_ANYBODY = ".home.arpa"  # what a home calls its own names by


def domain(text: str) -> str:
    """A DNS name in lower case, without a final dot, at most 200 characters so that names below it have room."""
    if DOMAIN.fullmatch(text) is None or len(text) > 200:
        raise InvalidInput(f"'{text}' is not a DNS name", hint="use a-z, 0-9, hyphens inside, dots between the parts")
    return text


def domain_of_apps(text: str) -> str:
    """The same, for names of apps."""
    require_usable(domain(text))
    return text


def require_usable(name: str) -> None:
    """Raises InvalidInput where names of apps would come to nothing."""
    top = name.rpartition(".")[2]
    if top in MEANT_OTHERWISE and not f".{name}".endswith(FOR_ANYBODY):
        raise InvalidInput(f"'{name}' ends in {top}, {MEANT_OTHERWISE[top]}", hint="choose another domain, e.g. cell.internal")


def cell_name(text: str) -> str:
    """The name of a cell: a DNS name of at most 63 characters."""
    if DOMAIN.fullmatch(text) is None or len(text) > 63:
        raise InvalidInput(
            f"'{text}' cannot name a cell", hint="use a-z, 0-9, hyphens inside, dots between the parts, 63 at most"
        )
    return text


def address(text: str) -> IPv4Address:
    """An IPv4 address that other hosts can reach."""
    try:
        found = IPv4Address(text)
    except AddressValueError as error:
        raise InvalidInput(f"'{text}' is not an IPv4 address", hint="e.g. 192.0.2.10, or auto") from error
    if any(found in unusable for unusable in UNUSABLE):
        raise InvalidInput(f"{text} cannot be a cell's address", hint="give the address that other cells reach")
    return found


def interface(text: str) -> str:
    """The name of an interface of this host."""
    if INTERFACE.fullmatch(text) is None or text in (".", ".."):
        raise InvalidInput(f"'{text}' is not an interface's name", hint="15 characters at most, e.g. eth0, or auto")
    return text


def network(text: str) -> IPv4Network:
    """An IPv4 network that may carry the overlay, /8 to /29."""
    try:
        found = IPv4Network(text)
    except (AddressValueError, NetmaskValueError) as error:
        raise InvalidInput(f"'{text}' is not an IPv4 network", hint="e.g. 10.255.0.0/16") from error
    except ValueError as error:
        meant = IPv4Network(text, strict=False)
        raise InvalidInput(f"'{text}' has bits set behind its prefix", hint=f"did you mean {meant}?") from error
    if "/" not in text or not 8 <= found.prefixlen <= 29:
        raise InvalidInput(f"'{text}' is not a network of /8 to /29", hint="e.g. 10.255.0.0/16")
    if any(found.overlaps(other) for other in UNUSABLE):
        raise InvalidInput(f"{text} cannot be an overlay", hint="use a private network, e.g. 10.255.0.0/16")
    return found


def path(text: str) -> Path:
    """An absolute path without `..`."""
    found = Path(text)
    if not found.is_absolute() or ".." in found.parts or UNPRINTABLE.search(text):
        raise InvalidInput(f"'{text}' is not an absolute path", hint="it starts with / and has no .. in it")
    return found


def user(text: str) -> str:
    """A system user's name."""
    if USER.fullmatch(text) is None:
        raise InvalidInput(f"'{text}' is not a user's name", hint="e.g. cellnet-envoy")
    return text


def variable_prefix(text: str) -> str:
    """What the names of environment variables begin with."""
    if PREFIX.fullmatch(text) is None:
        raise InvalidInput(f"'{text}' cannot begin a variable's name", hint="use A-Z, 0-9 and _, e.g. WARP_IST_")
    return text


def duration(text: str) -> timedelta:
    """`90s`, `15m`, `24h`, `7d`: at least one second, at most ten years."""
    match = DURATION.fullmatch(text)
    found = timedelta(**{UNITS[match[2]]: int(match[1])}) if match else None
    if found is None:
        raise InvalidInput(f"'{text}' is not a duration", hint="a number and s, m, h or d, e.g. 90s, 15m, 24h, 7d")
    if found > LONGEST:
        raise InvalidInput(f"'{text}' is too long", hint=f"{LONGEST.days}d at most")
    return found
