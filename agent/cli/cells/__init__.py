"""The cells that share a store, and the root that they trust."""
