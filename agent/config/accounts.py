"""The system users that Envoy, dnsmasq and the hop run as, and what keeps one of them from its files."""

import pwd
from collections.abc import Iterable
from pathlib import Path

from agent.config.config import Config
from agent.errors import HostRefused
from host.reach import first_out_of_reach


def envoy_account(config: Config) -> pwd.struct_passwd:
    """That of Envoy. Raises HostRefused where there is none."""
    return _account(config.envoy.user, "for Envoy")


def dns_account(config: Config) -> pwd.struct_passwd:
    """That of dnsmasq. Raises HostRefused where there is none."""
    return _account(config.dns.user, "for dnsmasq")


def hop_account(config: Config) -> pwd.struct_passwd:
    """That of the hop. Raises HostRefused where there is none."""
    return _account(config.dns.hop_user, "to ask the outside for names")


def _account(name: str, purpose: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        hint = f"make setup, or useradd --system --shell /usr/sbin/nologin {name}"
        raise HostRefused(f"there is no user '{name}' {purpose}", hint=hint) from error


def obstacle(account: pwd.struct_passwd, paths: Iterable[Path], *, called: str) -> HostRefused | None:
    """A folder that this user cannot enter on the way to one of the `paths`; `called` begins the sentence that says so."""
    folder = first_out_of_reach(paths, uid=account.pw_uid, gid=account.pw_gid)
    if folder is None:
        return None
    return HostRefused(f"{called} '{account.pw_name}' cannot enter {folder}", hint=f"chmod o+x {folder}")
