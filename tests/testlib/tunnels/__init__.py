"""Containers that call each other through tunnels, and the modes of mutual TLS."""
