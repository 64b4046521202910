"""Scripts that run inside a container: apps that answer, and callers."""
