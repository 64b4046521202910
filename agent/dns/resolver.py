"""What the cell's resolver is, as the configuration says: where it is asked, and what it alone answers for."""

from agent.config.config import Config
from dataplane.state import Resolver


def resolver_of(config: Config) -> Resolver:
    """The one of this cell."""
    return Resolver(config.dns.address, config.dns.zones)
