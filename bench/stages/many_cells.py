"""Several cells with an etcd, web and api on them, and policies for others around: the stage of the scripts about many cells.

Policies are changed through the first cell's control API. What is measured is when all cells act by them.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from agent.client.connection import RequestBody
from bench.loads.callers import Callers
from bench.stages.scene import CHAIN, Scene, containers, joined, policies
from lab.cells import Lab

WEB, API = "acme/shop/web", "acme/shop/api"
TOGETHER = 50  # documents of the crowd in one request: 4,000 policies


@dataclass(frozen=True, slots=True)
class ManyCells:
    """`callers` dial api on all cells from web on the first, and api on the last cell from web on the one before."""

    lab: Lab
    scenes: tuple[Scene, ...]
    callers: Callers

    @property
    def first(self) -> Scene:
        """The cell where policies are changed."""
        return self.scenes[0]

    def allow(self) -> None:
        """The one policy that comes and goes."""
        body: RequestBody = {"from": WEB, "to": API, "ports": ("tcp/8080",), "name": "bench"}
        self.first.client.post("/v1/policies/allow", body)

    def delete(self) -> None:
        """And away again."""
        self.first.client.delete("/v1/policies/bench")

    def surround(self, count: int, *, before: int = 0) -> None:
        """Have `count` policies for other apps in the store, which has `before`; their containers are on every cell."""
        have, want = containers(before), containers(count)
        for scene in self.scenes:
            scene.fill(want, first=have)
        documents = [policies(number, rules=min(count - number * CHAIN, CHAIN)) for number in range(before // CHAIN, want)]
        for start in range(0, len(documents), TOGETHER):
            lines = [line for each in documents[start : start + TOGETHER] for line in each.splitlines()[1:]]
            self.first.client.post("/v1/policies/apply", {"document": "\n".join(["policies:", *lines, ""])})
        self.sync()

    def sync(self) -> None:
        """Return when every cell has enforced what the store has."""
        for each in self.scenes:
            each.sync()


@contextlib.contextmanager
def built(count: int, *overrides: str) -> Iterator[ManyCells]:
    """`count` cells, two at least, with these of their settings (`KEY=VALUE`)."""
    with joined(count, *overrides) as (lab, scenes):
        targets = [each.container(API) for each in scenes]
        sources = [each.container(WEB) for each in scenes[:-1]]
        for each in scenes:
            each.sync()
        with Callers(sources[0], targets, other=sources[-1]) as callers:
            yield ManyCells(lab, scenes, callers)
