"""Makes this cell look like a HostState: kernel tables, Envoy's resources, live flows. Knows no policy, store or CA."""
