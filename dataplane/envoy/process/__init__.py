"""Envoy as a process: its command line, what it knows at its start, how much it may take, its admin socket."""
