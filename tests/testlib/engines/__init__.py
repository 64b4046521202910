"""Container engines of this machine on a test's cell."""
