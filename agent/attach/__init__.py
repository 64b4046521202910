"""Attachments: a container put on the overlay and taken off it, and what it gets with that."""
