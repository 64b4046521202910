"""What a key of agent.yaml is: how it is read, what it means, what the reference shows as its default."""

from dataclasses import dataclass

from agent.config.values import Reader


@dataclass(frozen=True, slots=True)
class Key:
    """Stands in the annotation of a field of Config: reading, checking and the reference all go by it.

    `meaning` is one line for the reference; `shown` its default where that is not the field's own.
    """

    read: Reader[object]
    meaning: str
    shown: str = ""
