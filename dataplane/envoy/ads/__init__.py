"""How Envoy is fed: the table of resources, sent by delta ADS until Envoy has taken it."""
