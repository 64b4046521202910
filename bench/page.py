"""The page of `cellnet ui` in a real Chromium: how long until it is seen, how much memory it takes, and what a frame costs
while its map is moved, beside an empty page in the same browser, dragged over in the same way.
"""

import contextlib
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from agent.errors import HostRefused
from bench.reports.comparison import Figure, Limit
from bench.reports.figures import percentile
from bench.stages.page_scene import APPS, PAIRS, answering
from tests.testlib.browser import Browser, Page, running_browser

Event: TypeAlias = dict[str, Any]

MOVES, APART = 120, 1 / 60  # of the mouse, and the seconds between two
EMPTY = "data:text/html,<title>empty</title>"
CATEGORIES = ("cc", "blink", "toplevel", "v8", "devtools.timeline", "disabled-by-default-devtools.timeline")
FRAME = "ProxyMain::BeginMainFrame"
SCRIPT_AND_LAYOUT = frozenset(
    {
        "FunctionCall",
        "FireAnimationFrame",
        "EventDispatch",
        "TimerFire",
        "EvaluateScript",
        "UpdateLayoutTree",
        "Layout",
        "HitTest",
    }
)
TASK = "RunTask"
BAR = Limit(most=8)  # milliseconds
PAGE, NOTHING = f"{APPS} apps, {PAIRS:,} arrows", "an empty page"
DRAWN = f"document.querySelectorAll('.app').length === {APPS} && document.querySelectorAll('.edge').length === {PAIRS}"
SEEN, HEAP, PROCESS, PART, WHOLE = (
    "page seen", "page's own memory", "memory of its process", "script and layout of a frame, p95",
    "all of a frame's work, p95",
)  # fmt: skip
UNITS = {SEEN: "ms", HEAP: "MiB", PROCESS: "MiB", PART: "ms", WHOLE: "ms"}


@contextlib.contextmanager
def served(root: Path) -> Iterator[str]:
    """The address that a `cellnet ui` prints."""
    words = [str(Path(sys.executable).with_name("cellnet")), "--root", str(root), "ui", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise HostRefused("`cellnet ui` does not start", hint="start it by hand")
        yield address
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def dragged(page: Page) -> None:
    """Hold the map and move it."""

    def mouse(kind: str, x: float, y: float) -> None:
        page.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    mouse("mousePressed", 10, 400)
    for number in range(MOVES):
        begun = time.monotonic()
        mouse("mouseMoved", 10 + number * 3, 400 + number % 40 * 4)
        time.sleep(max(0.0, APART - (time.monotonic() - begun)))
    mouse("mouseReleased", 10, 400)


def traced(browser: Browser, act: Callable[[], None]) -> Sequence[Event]:
    """What Chromium records of the main thread meanwhile."""
    browser.events.clear()
    browser.ask("Tracing.start", transferMode="ReportEvents", traceConfig={"includedCategories": list(CATEGORIES)})
    act()
    browser.ask("Tracing.end")
    browser.wait("Tracing.tracingComplete", seconds=60)
    found = [
        event for each in browser.events if each.get("method") == "Tracing.dataCollected" for event in each["params"]["value"]
    ]
    browser.events.clear()
    frames = defaultdict[tuple[int, int], int](int)
    for each in found:
        frames[each["pid"], each["tid"]] += each["name"] == FRAME
    main = max(frames, key=frames.__getitem__)
    return [each for each in found if (each["pid"], each["tid"]) == main and each["ph"] == "X"]


def frame_costs(events: Sequence[Event], names: frozenset[str]) -> tuple[float, ...]:
    """Milliseconds for each frame, from the end of the last to its own: what has one of these names, counted once where one is
    within another.
    """
    ends = sorted(each["ts"] + each["dur"] for each in events if each["name"] == FRAME)
    costs, until = [0.0] * len(ends), 0.0
    spans = sorted((each["ts"], each["ts"] + each["dur"]) for each in events if each["name"] in names)
    at = 0
    for start, end in spans:
        if start < until:
            continue
        until = end
        while at < len(ends) and ends[at] < start:
            at += 1
        if at < len(ends):
            costs[at] += (end - start) / 1000
    return tuple(costs)


def memory(browser: Browser, page: Page) -> tuple[float, float]:
    """MiB of the page's own objects, and of the largest of the browser's processes, which is the page's."""
    page.ask("HeapProfiler.collectGarbage")
    heap = page.ask("Runtime.getHeapUsage")["usedSize"] / 2**20
    renderers = [each["id"] for each in browser.ask("SystemInfo.getProcessInfo")["processInfo"] if each["type"] == "renderer"]
    return heap, max(_resident(each) for each in renderers)


def one_round(address: str, home: Path) -> Iterator[tuple[tuple[str, str], float]]:
    """In a browser of its own: nothing is known of the page yet."""
    with running_browser(home) as browser:
        for setting, place, whole in ((NOTHING, EMPTY, "true"), (PAGE, address, DRAWN)):
            page = browser.page()
            begun = time.monotonic()
            page.open(place)
            page.eventually(whole, seconds=60)
            yield (SEEN, setting), (time.monotonic() - begun) * 1000
            time.sleep(1.5)  # what comes after it is there, too
            heap, resident = memory(browser, page)
            yield (HEAP, setting), heap
            yield (PROCESS, setting), resident
            events = traced(browser, lambda page=page: dragged(page))  # type: ignore[misc]
            for what, names in ((PART, SCRIPT_AND_LAYOUT), (WHOLE, frozenset({TASK}))):
                yield (what, setting), percentile(frame_costs(events, names), 95)
            page.close()


def page_figures(*, rounds: int) -> tuple[Figure, ...]:
    """All of it, so many times."""
    values: Mapping[tuple[str, str], list[float]] = defaultdict(list)
    with TemporaryDirectory(prefix="cellnet-page-") as folder:
        root = Path(folder)
        (root / "run/cellnet").mkdir(parents=True)
        with answering(root / "run/cellnet/agent.sock"):
            for number in range(rounds):
                with served(root) as address:
                    for key, value in one_round(address, root / f"home-{number}"):
                        values[key].append(value)
    return tuple(
        Figure(what, setting, UNITS[what], tuple(own), limit=BAR if (what, setting) == (PART, PAGE) else None)
        for (what, setting), own in sorted(values.items(), key=lambda each: (list(UNITS).index(each[0][0]), each[0][1]))
    )


def _resident(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
