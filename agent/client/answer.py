"""The agent's JSON as typed values: a field that is missing or of another type is a Bug that names it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.errors import Bug


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON value of an answer."""

    value: object

    @classmethod
    def parse(cls, text: bytes) -> "Fields":
        """Raises Bug for what is not JSON."""
        try:
            return cls(json.loads(text))
        except ValueError as error:
            raise Bug("the agent's answer is not JSON") from error

    def at(self, name: str) -> "Fields":
        """The field `name` of an object."""
        if not isinstance(self.value, dict) or name not in self.value:
            raise Bug(f"the agent's answer has no '{name}'")
        return Fields(self.value[name])

    def each(self) -> Iterator["Fields"]:
        """The items of an array."""
        if not isinstance(self.value, list):
            raise Bug("the agent's answer is no array where one was expected")
        return (Fields(item) for item in self.value)

    @property
    def missing(self) -> bool:
        """Whether it is null."""
        return self.value is None

    def text(self, name: str) -> str:
        """A string or a number as text; "" for null."""
        found = self.at(name).value
        return "" if found is None else str(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings or numbers as texts."""
        return tuple(str(item.value) for item in self.at(name).each())

    def flag(self, name: str) -> bool:
        """Whether a field is true."""
        return self.at(name).value is True

    @property
    def fields(self) -> Mapping[str, object]:
        """All fields of an object."""
        if not isinstance(self.value, dict):
            raise Bug("the agent's answer is no object where one was expected")
        return self.value

    def mapping(self, name: str) -> Mapping[str, str]:
        """An object of strings."""
        found = self.at(name).value
        if not isinstance(found, dict):
            raise Bug(f"'{name}' in the agent's answer is no object")
        return {str(key): str(value) for key, value in found.items()}
