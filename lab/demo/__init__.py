"""The demos: what each step runs, what it shows, and whether that is what was to come."""
