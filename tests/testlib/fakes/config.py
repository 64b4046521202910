"""The configuration of an agent on memory: all defaults, of a file that is not there."""

from functools import partial
from pathlib import Path

from agent.config.current import CurrentConfig
from agent.config.load import load
from agent.control.config_in_force import ConfigInForce


def fake_config() -> ConfigInForce:
    """What is taken up, nothing goes by."""
    read = partial(load, Path("/etc/cellnet-of-a-test/agent.yaml"), root=None, hostname="one")
    return ConfigInForce(CurrentConfig(read()), load=read, take=lambda _: None)
