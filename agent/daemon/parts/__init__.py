"""Makes the objects that the agent is made of, in the order in which they need each other."""
