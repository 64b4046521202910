"""The agent as a process: builds every object, owns every task, and supervises Envoy and the resolver beside it."""
