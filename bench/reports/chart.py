"""The chart of docs/performance.md as SVG: latency and new connections against the number of rules, ours beside flat lists.

Written by hand, because it is two panels of lines. It has no background and takes the colours of the reader's theme. Pure.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from agent.errors import InvalidInput
from bench.stages.paths import Rules
from dataplane.firewall.backends.backends import Backend

SETTING = re.compile(r"^(?P<rules>.+), (?P<count>[\d,]+) rules, (?P<backend>\w+)$")
LINES = (
    (Rules.OURS, Backend.NFT, "ours"),
    (Rules.FLAT_ESTABLISHED, Backend.NFT, "behind"),
    (Rules.FLAT, Backend.LEGACY, "legacy"),
    (Rules.FLAT, Backend.NFT, "flat"),
)
WIDTH, HEIGHT = 900, 400
PANEL, LEFT, TOP, BOTTOM = 350, 70, 90, 340  # width of a panel, left of the first, top and bottom of both
NEXT = 450  # from the left of one panel to that of the next
STEPS = 5
EASY = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
# grey text can be read on both, where a viewer does not know its reader's theme
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #6e7781 } .head { font-weight: 600 } .axis { stroke: #6e7781 }
.grid { stroke: #6e7781; stroke-opacity: .25 } .line { fill: none; stroke-width: 2.5 }
.bare { stroke: #6e7781; stroke-dasharray: 3 4 } .ours { stroke: #1f6feb } .behind { stroke: #8957e5 }
.legacy { stroke: #bf8700 } .flat { stroke: #da3633 } circle { stroke-width: 2.5; fill: none }
@media (prefers-color-scheme: light) { text { fill: #24292f } }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .axis, .grid, .bare { stroke: #9da7b3 } .ours { stroke: #58a6ff }
.behind { stroke: #bc8cff } .legacy { stroke: #e3b341 } .flat { stroke: #ff7b72 } }"""


@dataclass(frozen=True, slots=True)
class Point:
    """A median of the data path's figures."""

    what: str
    setting: str
    unit: str
    median: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the two: where it stands, and how far its axes reach."""

    left: int
    head: str
    counts: Sequence[int]
    highest: float

    def x(self, count: int) -> float:
        """Logarithmic."""
        first, last = math.log(self.counts[0]), math.log(self.counts[-1])
        return self.left + PANEL * (math.log(count) - first) / (last - first or 1)

    def y(self, value: float) -> float:
        """Linear, from nothing."""
        return BOTTOM - (BOTTOM - TOP) * value / self.highest


def svg(points: Sequence[Point]) -> str:
    """The whole file. Raises InvalidInput where there is nothing to draw a line of."""
    whats = list(dict.fromkeys(each.what for each in points))[:2]
    parts = list(_legend())
    for number, what in enumerate(whats):
        parts += _panel(LEFT + number * NEXT, [each for each in points if each.what == what])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    title = "<title>Latency and new connections per second against the number of rules: cellnet beside flat lists</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _panel(left: int, points: Sequence[Point]) -> Iterator[str]:
    lines = {kind: _line(points, rules, backend) for rules, backend, kind in LINES}
    counts = sorted({count for line in lines.values() for count, _ in line})
    if len(counts) < 2:
        raise InvalidInput("the data path was not measured for a chart", hint="run bench_datapath without --no-chart")
    bare = next(each for each in points if each.setting == Rules.NONE.value)
    highest = _round(max(bare.median, *(value for line in lines.values() for _, value in line)))
    panel = Panel(left, f"{points[0].what}, {points[0].unit}", counts, highest)
    yield from _axes(panel)
    yield f'<path class="bare line" d="M{left} {panel.y(bare.median):.1f}h{PANEL}"/>'
    for kind, line in reversed(lines.items()):  # ours on top
        places = [(panel.x(count), panel.y(value), count, value) for count, value in line]
        yield f'<path class="{kind} line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in places)}"/>'
        for x, y, count, value in places:
            name = f"<title>{count:,} rules: {value:,.0f}</title>"
            yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3">{name}</circle>'


def _line(points: Sequence[Point], rules: Rules, backend: Backend) -> list[tuple[int, float]]:
    found = []
    for point in points:
        match = SETTING.match(point.setting)
        if match and (match["rules"], match["backend"]) == (rules.value, backend.value):
            found.append((int(match["count"].replace(",", "")), point.median))
    return sorted(found)


def _axes(panel: Panel) -> Iterator[str]:
    yield f'<text class="head" x="{panel.left}" y="{TOP - 18}">{escape(panel.head)}</text>'
    for step in range(STEPS + 1):
        value = panel.highest * step / STEPS
        y = panel.y(value)
        yield f'<path class="{"grid" if step else "axis"}" d="M{panel.left} {y:.1f}h{PANEL}"/>'
        yield f'<text text-anchor="end" x="{panel.left - 8}" y="{y + 4:.1f}">{value:,.0f}</text>'
    for count in panel.counts:
        x = panel.x(count)
        yield f'<path class="axis" d="M{x:.1f} {BOTTOM}v5"/>'
        yield f'<text text-anchor="middle" x="{x:.1f}" y="{BOTTOM + 20}">{count:,}</text>'
    yield f'<text text-anchor="middle" x="{panel.left + PANEL / 2}" y="{BOTTOM + 44}">rules</text>'


def _legend() -> Iterator[str]:
    names = {kind: f"{rules.value} ({backend.value})" for rules, backend, kind in LINES} | {"bare": Rules.NONE.value}
    x = LEFT - 40.0
    for kind, name in names.items():
        yield f'<path class="{kind} line" d="M{x:.0f} 28h22"/><text x="{x + 28:.0f}" y="32">{escape(name)}</text>'
        x += 50 + 6.7 * len(name)


def _round(value: float) -> float:
    """The next number above that divides into steps which are easy to read."""
    digit: float = 10.0 ** math.floor(math.log10(value / STEPS))
    return next(each * digit for each in EASY if each * digit >= value / STEPS) * STEPS
