"""The certificates that this cell vouches with, and those that agent.yaml names: whole, and valid for a while yet."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from agent.config.config import Config, Mtls
from agent.doctor.checks import Finding
from agent.model.status import Problem
from ca.certificate import Validity
from ca.disk import load
from ca.errors import CaRefused
from ca.pem import certificates as certificates_in

SOON: Final = timedelta(days=14)
ROOT_SOON: Final = timedelta(days=90)
TO_ISSUE = "cellnet ca issue-cell --cell {} where the root's key is, then copy cell.crt and cell.key to {}"


def authorities(config: Config, *, now: datetime) -> Finding:
    """The root's and the cell's."""
    folder = config.paths.ca
    if not (folder / "root.crt").exists():
        if config.store is None or config.tls.mtls is Mtls.NONE:
            return Finding("none yet: the agent's first start makes them")
        what = f"{folder} has no root.crt, and where cells demand TLS of each other none is made"
        return Finding("", (Problem("identity", what, TO_ISSUE.format(config.cell, folder)),))
    try:
        found = load(folder, trust_domain=config.trust_domain, now=now)
    except CaRefused as error:
        return Finding("", (Problem("identity", error.what, error.hint),))
    mine, root = Validity.of(found.cell.certificate), Validity.of(found.cell.chain[-1])
    about = f"the cell's until {mine.not_after:%Y-%m-%d}, the root's until {root.not_after:%Y-%m-%d}"
    problems = []
    if root.not_after - now < ROOT_SOON:
        problems.append(Problem("identity", f"the root's certificate ends on {root.not_after:%Y-%m-%d}", "cellnet ca rotate"))
    elif found.root is None and mine.not_after - now < SOON:
        hint = TO_ISSUE.format(config.cell, folder)
        problems.append(Problem("identity", f"{folder}/cell.crt ends on {mine.not_after:%Y-%m-%d}", hint))
    return Finding(about, tuple(problems))


def named(config: Config, *, now: datetime) -> Finding:
    """Those that the configuration names, for etcd and for the metrics."""
    etcd = () if config.store is None else (config.store.ca, config.store.cert)
    paths = [each for each in (*etcd, config.metrics.cert, config.metrics.client_ca) if each is not None]
    return Finding(f"{len(paths)} files", tuple(problem for path in paths for problem in _of_file(path, now=now)))


def _of_file(path: Path, *, now: datetime) -> Iterator[Problem]:
    try:
        found = certificates_in(path.read_bytes(), where=str(path))
    except OSError as error:
        yield Problem("config", f"cannot read {path}: {error.strerror}", "see where agent.yaml names it")
    except CaRefused as error:
        yield Problem("config", error.what, error.hint)
    else:
        valid = [Validity.of(each) for each in found]
        end, start = min(each.not_after for each in valid), max(each.not_before for each in valid)
        hint = f"put a new one there: {path} is read again by itself"
        if end - now < SOON:
            yield Problem("config", f"{path} {'has ended' if end < now else 'ends'} on {end:%Y-%m-%d}", hint)
        if start > now:
            what = f"{path} is valid from {start:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}"
            yield Problem("config", what, "timedatectl set-ntp true: the clock of this host is behind")
