"""Environments and files of containers on a real ledger, with policies and tags in a store in memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from agent.attach.container_files import ContainerFiles, ContainerPaths
from agent.attach.environments import Environments
from agent.config.config import RESOLVER
from agent.identity.keyring import Keyring
from agent.identity.names import app_name
from agent.model.resolv_conf import resolv_conf
from agent.policy.known_apps import KnownApps
from agent.store.ledger import Ledger
from tests.testlib.beds.policies import policies_in
from tests.testlib.fakes.store import MemoryStore

DOMAIN = "cell.internal"


def container_files(
    folder: Path, ledger: Ledger, *, store: MemoryStore | None = None, prefixes: Sequence[str] = (), now: float = 0.0
) -> ContainerFiles:
    """Below `folder`, which is empty."""
    held = store or MemoryStore()
    environments = Environments(
        Keyring(folder / "keys"),
        policies=policies_in(folder, held).in_force,
        known=KnownApps(held, held, now=lambda: now),
        prefixes=prefixes,
        name_of=partial(app_name, domain=DOMAIN),
    )
    return ContainerFiles(
        ledger,
        environments,
        folders=ContainerPaths(folder / "env", folder / "resolv"),
        resolv_conf=partial(resolv_conf, nameserver=RESOLVER, domain=DOMAIN),
        leaving=set(),
        named=folder / "netns",
    )
