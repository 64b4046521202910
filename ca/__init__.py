"""The CA: names and keys in, certificates out. Knows no store and no network."""
