"""Parts of an agent on memory: for tests of what stands on them."""
