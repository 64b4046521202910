"""Policies: those of this cell's files and of the store, which of them hold, and what they mean for containers."""
