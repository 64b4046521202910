"""Flows as users see them: whose they are, what allows them, looked at or followed as they begin and end."""
