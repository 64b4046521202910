"""Cells of one segment whose rules are written by different backends, each by its number."""

from collections.abc import Sequence

from lab.cell import Cell

BACKENDS = {1: "legacy", 2: "nft", 3: "legacy"}


class MixedCell(Cell):
    """With the backend of its number."""

    def make(self, overrides: Sequence[str] = ()) -> None:
        super().make([*overrides, f"firewall.backend={BACKENDS[self.number]}"])
