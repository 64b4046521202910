"""Attachments, and the commands that run in them."""
