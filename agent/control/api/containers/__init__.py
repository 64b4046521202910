"""Attachments, and the containers of engines."""
