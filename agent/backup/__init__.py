"""A cell's state in one file, and brought back from it."""
