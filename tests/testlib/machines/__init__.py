"""Machines of a test: a Debian with systemd, its package, and a cell on it."""
