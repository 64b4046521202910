"""The configuration that an agent runs by at present: a reload puts another one in its place."""

from dataclasses import dataclass

from agent.config.config import Config


@dataclass(slots=True)
class CurrentConfig:
    """One per agent."""

    config: Config
