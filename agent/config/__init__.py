"""agent.yaml: read, checked with the place of each mistake, and kept as the value that is in force."""
