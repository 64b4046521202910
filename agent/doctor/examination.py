"""All checks of `cellnet doctor`, in the order of what stands on what."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

from agent.client.connection import Client
from agent.config.config import Config
from agent.daemon.disk_space import DiskSpace
from agent.daemon.firewall import chosen_backend
from agent.daemon.trusted_files import TrustedFiles
from agent.doctor import certificates, engines, host_network, programs, store_reach, surroundings
from agent.doctor.checks import Finding, HostCheck, of_parts
from agent.doctor.kernel_features import features, missing
from agent.doctor.running_agent import AgentView, agent
from agent.doctor.saved_settings import saved_settings
from agent.model.status import Part


def all_checks(config: Config, client: Client) -> Iterator[HostCheck]:
    """Those of this host."""
    view, now = AgentView.of(client), datetime.now(UTC)
    yield HostCheck("config", lambda: of_parts(Part(), about=_config(config)))
    yield HostCheck("programs", lambda: programs.programs(config))
    yield HostCheck("users", lambda: programs.accounts(config))
    yield HostCheck("kernel", lambda: _kernel(config))
    yield HostCheck("sysctl", saved_settings)
    yield HostCheck("open files", lambda: surroundings.open_files(view.pid))
    yield HostCheck("conntrack", surroundings.tracked_flows)
    yield HostCheck("inotify", surroundings.inotify)
    yield HostCheck("disk", lambda: _disk(config))
    yield HostCheck("files", lambda: of_parts(TrustedFiles(config), about="only root can change what decides"))
    yield HostCheck("underlay", lambda: host_network.underlay(config))
    yield HostCheck("offload", lambda: host_network.offload(config))
    yield HostCheck("rp_filter", lambda: host_network.return_path(config))
    yield HostCheck("addresses", lambda: host_network.addresses(config))
    yield HostCheck("firewall", lambda: host_network.other_rules(config))
    yield HostCheck("names", lambda: host_network.names(config))
    yield HostCheck("proxies", lambda: surroundings.proxies(config, environment=os.environ))
    yield HostCheck("engines", engines.podman)
    yield HostCheck("store", lambda: store_reach.etcd(config))
    yield HostCheck("TLS files", lambda: certificates.named(config, now=now))
    yield HostCheck("clock", lambda: store_reach.clock(config, state=store_reach.clock_state()))
    yield HostCheck("certificates", lambda: certificates.authorities(config, now=now))
    yield HostCheck("agent", lambda: agent(view, config))


def _config(config: Config) -> str:
    """Without a problem: it has been read."""
    file = config.file
    return "defaults" if file is None or file.digest is None else str(file.path)


def _kernel(config: Config) -> Finding:
    return missing(features(chosen_backend(config), mtls=config.tls.mtls, shared=config.store is not None))


def _disk(config: Config) -> Finding:
    paths = config.paths
    part = DiskSpace(paths.database.parent, paths.ca, paths.last_good, paths.run, paths.identity)
    return of_parts(part, about="room, and writable")
