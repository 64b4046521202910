"""The loop: a snapshot of all that decides becomes a HostState, and what it no longer permits is cut."""
