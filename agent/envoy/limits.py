"""File descriptors: sudo and systemd give 1024 and allow far more; agent and Envoy take what is allowed."""

import resource


def raise_descriptor_limit() -> int:
    """Raise the soft limit of this process to its hard one, and return it. Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
