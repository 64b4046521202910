"""Apps, their spaces and their routes."""
