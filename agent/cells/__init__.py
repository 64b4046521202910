"""The other cells: where they are, whether they are reached, and what this one announces of itself."""
