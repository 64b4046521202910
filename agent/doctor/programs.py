"""The programs that cellnet starts, with their versions, and the users that they run as."""

import grp
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from agent.config.accounts import dns_account, envoy_account, hop_account
from agent.config.config import BackendChoice, Config
from agent.control.server import GROUP
from agent.dns.process import PATHS, dns_obstacle, dnsmasq_program, has_hop
from agent.doctor.checks import Finding
from agent.envoy.process import envoy_obstacle
from agent.errors import HostRefused
from agent.model.status import Problem
from dataplane.envoy.process.command import bundled_envoy
from host.process import run

TOOLS = {"setpriv": "util-linux", "nsenter": "util-linux", "modprobe": "kmod"}
BACKENDS = {BackendChoice.NFT: ("nft",), BackendChoice.LEGACY: ("legacy",), BackendChoice.AUTO: ("nft", "legacy")}
SECONDS = 20.0  # an Envoy that is not in memory yet takes some


def programs(config: Config) -> Finding:
    """Those that are missing, or do not run."""
    tools = TOOLS | {
        f"iptables-{flavour}-{word}": "iptables"
        for flavour in BACKENDS[config.firewall.backend]
        for word in ("save", "restore")
    }
    problems = [_missing(name, package) for name, package in tools.items() if _found(name) is None]
    versions = [f"cellnet {version('cellnet')}"]
    for argv in _versioned(config, problems):
        try:
            versions.append(_version(run(argv, timeout=SECONDS)))
        except HostRefused as error:
            problems.append(Problem("kernel", error.what, error.hint))
    return Finding(", ".join(versions), tuple(problems))


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATHS}")


def _missing(name: str, package: str) -> Problem:
    return Problem("kernel", f"{name} is not installed", f"apt-get install {package}")


def _versioned(config: Config, problems: list[Problem]) -> Iterator[Sequence[str]]:
    if (iptables := _found("iptables")) is not None:
        yield [iptables, "--version"]
    try:
        yield [str(dnsmasq_program()), "--version"]
    except HostRefused as error:
        problems.append(Problem("dns", error.what, error.hint))
    try:
        envoy = config.envoy.binary or bundled_envoy()
    except HostRefused as error:
        problems.append(Problem("envoy", error.what, error.hint))
    else:
        if Path(envoy).exists():
            yield [str(envoy), "--version"]
        else:
            problems.append(Problem("envoy", f"{envoy} is not there", "set envoy.binary to a program, or to auto"))


def _version(printed: bytes) -> str:
    """`iptables v1.8.9 (nf_tables)`, `Dnsmasq version 2.90  Copyright …`, `…/envoy  version: HASH/1.40.0/…`."""
    line = next((each for each in printed.decode(errors="replace").splitlines() if each.strip()), "")
    if "envoy" in line.split()[0]:
        return f"envoy {line.split('/')[-4]}" if line.count("/") > 3 else "envoy"
    return " ".join(line.replace("version ", "").split()[:2]).lower()


def accounts(config: Config) -> Finding:
    """The users that are missing, or that a folder on the way keeps out."""
    problems = []
    for account in (envoy_account, dns_account, *([hop_account] if has_hop(config) else ())):
        try:
            account(config)
        except HostRefused as error:
            problems.append(Problem("cell", error.what, error.hint))
    if not problems:
        found = (envoy_obstacle(config), dns_obstacle(config))
        problems += [Problem("cell", each.what, each.hint) for each in found if each is not None]
    try:
        grp.getgrnam(GROUP)
    except KeyError:
        what = f"there is no group '{GROUP}': only root can ask the agent"
        problems.append(Problem("cell", what, f"groupadd --system {GROUP}, then restart the agent"))
    return Finding(f"{config.envoy.user}, {config.dns.user}, {config.dns.hop_user}", tuple(problems))
