"""What one cell says of its last minute, as a value and as bytes: at most 8 KB, what was most of it first.

A summary of another cell may say anything: what is larger, of another shape or no plain text is refused as a whole.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from agent.insight.flows.live_flow import LiveFlow
from agent.insight.refusals.denied import Pair, Reason
from agent.wording import printable

LARGEST: Final = 8_192  # bytes
MOST: Final = 200  # entries of each kind
LONGEST: Final = 256  # characters of a name or a place


class FlowPair(NamedTuple):
    """Ends are apps, or addresses that are no app's. `policy` and `origin` are as of a flow."""

    source: str
    to: str
    protocol: str
    port: int
    policy: str
    origin: str


@dataclass(frozen=True, slots=True)
class CellSummary:
    """`at` is UTC. `flows` are open connections and other flows, `denied` is what was refused, or passed on trial, both by
    pair, each with how many there were; `more_flows` and `more_denied` are of pairs that found no room."""

    at: datetime
    flows: tuple[tuple[FlowPair, int], ...]
    denied: tuple[tuple[Pair, int], ...]
    more_flows: int = 0
    more_denied: int = 0

    @classmethod
    def of(cls, at: datetime, flows: Iterable[LiveFlow], denied: Counter[Pair]) -> Self:
        """What was most of each kind."""
        counted = Counter(
            FlowPair(each.source, each.to, each.protocol, each.port, each.policy[:LONGEST], printable(each.origin[-LONGEST:]))
            for each in flows
        )
        return cls(at, *_first(counted, denied, most=MOST))

    def data(self) -> bytes:
        """As it is published: of what is too much the least is left out."""
        flows, denied = Counter(dict(self.flows)), Counter(dict(self.denied))
        most = MOST
        while True:
            chosen = _first(flows, denied, most=most)
            more = (self.more_flows + chosen[2], self.more_denied + chosen[3])
            data = _Written(at=self.at, flows=chosen[0], denied=chosen[1], more=more).model_dump_json().encode()
            if len(data) <= LARGEST:
                return data
            most = most * 3 // 4

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """What another cell has published. Raises ValueError."""
        if len(data) > LARGEST:
            raise ValueError(f"it has {len(data)} bytes, {LARGEST} at most")
        try:
            found = _Written.model_validate_json(data)
        except ValidationError as error:
            raise ValueError("it is no summary") from error
        return cls(
            found.at,
            tuple((FlowPair(*pair), count) for pair, count in found.flows),
            tuple((Pair(*pair), count) for pair, count in found.denied),
            *found.more,
        )


def _first(
    flows: Counter[FlowPair], denied: Counter[Pair], *, most: int
) -> tuple[tuple[tuple[FlowPair, int], ...], tuple[tuple[Pair, int], ...], int, int]:
    """In an order that does not change where the counts are the same."""
    most_flows = tuple(sorted(flows.items(), key=lambda each: (-each[1], each[0]))[:most])
    most_denied = tuple(sorted(denied.items(), key=lambda each: (-each[1], each[0]))[:most])
    rest = flows.total() - sum(count for _, count in most_flows), denied.total() - sum(count for _, count in most_denied)
    return most_flows, most_denied, *rest


def _plain(text: str) -> str:
    if printable(text) != text:
        raise ValueError("no plain text")
    return text


_Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_plain)]
_Count = Annotated[int, Field(ge=0, le=1 << 53)]
_Port = Annotated[int, Field(ge=0, le=65_535)]


class _Written(BaseModel):
    """Fields of a later version are passed over."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    flows: tuple[tuple[tuple[_Text, _Text, _Text, _Port, _Text, _Text], _Count], ...]
    denied: tuple[tuple[tuple[_Text, _Text, _Text, _Port, Reason], _Count], ...]
    more: tuple[_Count, _Count] = (0, 0)
