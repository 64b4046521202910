"""Every file that decides what root does here, looked at whenever the status is asked for: root alone may change it.

Whatever reads one of them looks, too, and does not take what others could have written; agent.yaml is looked at by
`ConfigInForce`, policy files by agent/policy/directory/reading.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.config.config import Config
from agent.errors import HostRefused
from agent.model.status import Area, Part, Problem
from host.trust import require_trusted


@dataclass(frozen=True, slots=True)
class DecidingFile:
    """`secret` where others must not read it either."""

    area: Area
    path: Path
    secret: bool = False


def deciding_files(config: Config) -> Iterator[DecidingFile]:
    """All that this configuration names; they need not be there."""
    paths, etcd = config.paths, config.store
    yield DecidingFile("store", paths.database)
    yield DecidingFile("policies", paths.last_good)
    for name in ("root.crt", "cell.crt"):
        yield DecidingFile("identity", paths.ca / name)
    for name in ("root.key", "cell.key"):
        yield DecidingFile("identity", paths.ca / name, secret=True)
    for path in filter(None, (config.metrics.cert, config.metrics.client_ca)):
        yield DecidingFile("agent", path)
    for path in filter(None, (config.metrics.key, config.metrics.token_file)):
        yield DecidingFile("agent", path, secret=True)
    if config.envoy.binary is not None:
        yield DecidingFile("envoy", config.envoy.binary)
    for path in () if etcd is None else filter(None, (etcd.ca, etcd.cert)):
        yield DecidingFile("store", path)
    for path in () if etcd is None else filter(None, (etcd.key, etcd.password_file)):
        yield DecidingFile("store", path, secret=True)


class TrustedFiles(Part):
    """They are named by the configuration, once."""

    def __init__(self, config: Config) -> None:
        self._files = tuple(deciding_files(config))

    def problems(self) -> Iterator[Problem]:
        """One for each file that others than root can change, or read where it is secret."""
        for each in self._files:
            try:
                require_trusted(each.path, secret=each.secret)
            except HostRefused as error:
                yield Problem(each.area, error.what, error.hint)
