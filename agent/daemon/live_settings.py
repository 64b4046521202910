"""What a reload changes: the parts that go by a key of agent.yaml which can be another while they run."""

from agent import log
from agent.config.config import Config
from agent.daemon.parts.foundation import Foundation, with_live_settings
from agent.daemon.parts.parts import Parts, reserved_ports


def take(config: Config, *, base: Foundation, parts: Parts) -> None:
    """Have all of them go by `config`; whatever they go by already stays."""
    log.set_level(config.log.level)
    parts.loop.take(with_live_settings(base.facts, config))
    parts.leaves.set_lifetime(config.tls.leaf_lifetime)
    parts.published.reserve(reserved_ports(config))
    parts.resolver.upstreams.take(config)
    parts.files.environments.set_prefixes(config.service_env_prefixes)
    parts.files.look()
