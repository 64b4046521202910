"""The folder of policy files: seen, read, and believed."""
