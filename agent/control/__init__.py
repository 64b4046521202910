"""The control API: HTTP with JSON over a unix socket, for the command line and for scripts."""
